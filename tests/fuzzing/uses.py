"""What users do with programs: run them at other sizes, save, train, transplant and deploy them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swdc import Certificate, Program, deploy, load, save, transplant, verify
from swdc.errors import InputError, TransplantError
from swdc.ir.conditions import broken
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.dtypes_and_devices import float_types
from swdc.ir.graph import SHAPE
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.seeding import seed_all
from swdc.ir.sizes import evaluate
from swdc.rewriting.certificate import FACTOR, TOLERANCE
from tests.fuzzing.blocks import Draw
from tests.fuzzing.network import random_inputs
from tests.fuzzing.precision import in_type

CAPTURED_ALIKE = 1e-12
"""The largest relative error between a model and its program in float64."""


class DifferenceError(AssertionError):
    """A check of a network does not hold."""


@dataclass(frozen=True)
class Made:
    """What was made of a network: its program, and one masked and slim program of it, with their certificate.

    ``layouts`` says what the network takes; ``normed`` that batch norms were inserted.
    """

    model: nn.Module
    layouts: Sequence[str]
    program: Program
    masked: Program
    small: Program
    certificate: Certificate
    normed: bool

    @property
    def is_wide(self) -> bool:
        """Whether all is computed in float64."""
        return float_types(self.program) <= {torch.float64}


def copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.clone() for a in args)


def captured_within(program: Program) -> float:
    """Return the largest relative error between a model and its program; half of the digits in narrow types."""
    unit = max((torch.finfo(dtype).eps for dtype in float_types(program)), default=0.0)
    return CAPTURED_ALIKE if unit <= torch.finfo(torch.float64).eps else unit**0.5


def certified(masked: Program, small: Program, text: str, **options: Any) -> Certificate:
    """Return the certificate of two programs; raise ``DifferenceError`` if they compute something else."""
    certificate = verify(masked, small, **options)
    if not (certificate.max_relative_error <= TOLERANCE and certificate.rounding <= FACTOR):
        raise DifferenceError(f"{text}, the slim program is not the masked one: {certificate}")
    return certificate


def same_outputs(one: Program, other: Program, text: str) -> None:
    args, _ = sample_inputs(one, 2, 0, None)
    with torch.no_grad():
        error = relative_error(one(*copies(args)), other(*copies(args)))
    if error > 0:
        raise DifferenceError(f"{text}, it computes something else: relative error {error:.2e}")


def saved_alike(made: Made, draw: Draw) -> None:
    """Saved and loaded, a slim program is the same."""
    small = made.small
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(save(small, Path(folder) / "slim"))
    if loaded.hash() != small.hash():
        raise DifferenceError("saved and loaded, it has another hash")
    same_outputs(small, loaded, "saved and loaded")


def learns(made: Made, draw: Draw) -> None:
    """One step of training, on two samples, gives gradients that are finite, if it does for the dense program."""
    if not made.is_wide and not _has_gradients(made.program):
        return  # a type that torch does not train in, or that is too narrow
    if not _has_gradients(made.small):
        raise DifferenceError("the slim program cannot be trained: no parameter has a gradient")


def _has_gradients(program: Program) -> bool:
    args, _ = sample_inputs(program, 2, 0, None)
    copy = program.clone().train()
    outputs = [o for o in flat_outputs(copy(*copies(args))) if o.requires_grad]
    try:
        torch.autograd.backward([o.square().mean() for o in outputs])
    except RuntimeError:
        return False
    return any(p.grad is not None and bool(p.grad.isfinite().all()) for p in copy.parameters())


def transplanted(made: Made, draw: Draw) -> str:
    """Return whether the network's own class takes the slim tensors; then it computes what the slim program does."""
    if made.normed:
        return ""
    small = made.small
    try:
        mine = transplant(small, made.model)
    except TransplantError:
        return "refused"
    args, _ = sample_inputs(small, 3, 1, None)
    with torch.no_grad():
        error = relative_error(small(*copies(args)), mine(*copies(args)))
    if not error <= max(TOLERANCE, captured_within(small)):
        raise DifferenceError(f"the transplanted model is not the slim program: relative error {error:.2e}")
    return "done"


def deployed_alike(made: Made, draw: Draw) -> None:
    """Deployed for evaluation, it computes the same at batches of one and of several, in the same shapes."""
    small = made.small
    deployed = deploy(small)
    for batch in (1, 3):
        args, _ = sample_inputs(small, batch, 0, None)
        with torch.no_grad():
            error = relative_error(small.eval()(*copies(args)), deployed(*copies(args)))
        if not error <= max(TOLERANCE, captured_within(small)):
            raise DifferenceError(f"deployed, it computes something else at batch {batch}: relative error {error:.2e}")


def at_other_sizes(made: Made, draw: Draw) -> None:
    """At other sizes of everything that may vary, the program is the model, and the slim program the masked one.

    Sizes for which the program does not stand are refused, whatever the model does there.
    """
    drawn = _sizes(made.program, draw)
    if broken(made.program.facts.conditions, drawn) is not None:
        excluded = _inputs(made, draw, drawn)
        if not isinstance(_tried(made.program, excluded), InputError):
            raise DifferenceError(f"inputs {_forms(excluded)}, which conditions exclude, are not refused")
    args = _inputs(made, draw, _met_sizes(made.program, draw))
    wanted, got = _tried(made.model, args), _tried(made.program, args)
    if isinstance(wanted, Exception) != isinstance(got, Exception):
        raise DifferenceError(f"for inputs {_forms(args)} the model gives {_brief(wanted)}, the program {_brief(got)}")
    if isinstance(wanted, Exception):
        return
    error = 0.0 if made.normed else relative_error(wanted, got)
    if error > captured_within(made.program):
        raise DifferenceError(f"the program is not the model for inputs {_forms(args)}: relative error {error:.2e}")
    certified(made.masked, made.small, f"for inputs {_forms(args)}", inputs=args)


def not_finite_alike(made: Made, draw: Draw) -> None:
    """If one number of an input is not finite, program and model, masked and slim are finite in the same places.

    Masked and slim may differ where the certificate assumes that no input holds such a number.
    """
    args = _inputs(made, draw, _met_sizes(made.program, draw))
    places = [number for number, value in enumerate(args) if value.is_floating_point()]
    if not places or isinstance(_tried(made.model, args), Exception):
        return
    value, name = draw.one_of((float("nan"), "NaN"), (float("inf"), "infinity"), (float("-inf"), "infinity"))
    changed = args[draw.choice(places)].view(-1)
    changed[draw.randrange(len(changed))] = value
    if not made.normed and not _finite_alike(made.model, made.program, args):
        raise DifferenceError(f"if an input holds {name}, the program is not finite where the model is")
    assumed = any(assumption.endswith(name) for assumption in made.certificate.assumptions)
    if made.is_wide and not assumed and not _finite_alike(made.masked, made.small, args):
        raise DifferenceError(f"if an input holds {name}, the slim program is not finite where the masked one is")


def refused(made: Made, draw: Draw) -> None:
    """Inputs of another size than the program stands for, of another rank or of another type are refused."""
    args = list(_inputs(made, draw, _met_sizes(made.program, draw)))
    number = draw.randrange(len(args))
    value, shape = args[number], made.program.graph.find_nodes(op="placeholder")[number].meta[SHAPE]
    wrong = [value.unsqueeze(-1), value.to(torch.complex64), value.bool()]
    fixed = [dim for dim, size in enumerate(shape) if isinstance(size, int)]
    wrong += [torch.cat([value, value.narrow(dim, 0, 1)], dim) for dim in fixed]
    args[number] = draw.choice(wrong)
    for program in (made.program, made.masked, made.small):
        if not isinstance(_tried(program, tuple(args)), InputError):
            raise DifferenceError(f"inputs {_forms(args)} are not refused, but the program was traced with others")


def _sizes(program: Program, draw: Draw) -> dict[str, int]:
    """Return random values of all sizes that may vary."""
    return {name: draw.randint(1, value + 4) for name, value in sorted(program.facts.symbols.items())}


def _met_sizes(program: Program, draw: Draw) -> dict[str, int]:
    """Return random values of all sizes, for which the program stands; those of the example if ten draws give none."""
    drawn = (_sizes(program, draw) for _ in range(10))
    met = (sizes for sizes in drawn if broken(program.facts.conditions, sizes) is None)
    return next(met, dict(program.facts.symbols))


def _inputs(made: Made, draw: Draw, sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
    """Return random inputs of given sizes, over the whole ranges of indices."""
    program = made.program
    nodes = program.graph.find_nodes(op="placeholder")
    seed_all(draw.torch_seed())
    drawn = random_inputs(made.layouts, [evaluate(node.meta[SHAPE], sizes) for node in nodes])
    types = [value.dtype for value in program.facts.example[0]]
    return tuple(in_type(value, dtype) for value, dtype in zip(drawn, types, strict=True))


def _tried(module: nn.Module, args: Sequence[Tensor]) -> Any:
    """Return what a module gives for inputs in evaluation, or the error that it raises."""
    try:
        with torch.no_grad():
            return module.eval()(*copies(tuple(args)))
    except (RuntimeError, ValueError, IndexError, InputError) as error:
        return error


def _finite_alike(one: nn.Module, other: nn.Module, args: Sequence[Tensor]) -> bool:
    results = [_tried(module, args) for module in (one, other)]
    if any(isinstance(result, Exception) for result in results):
        return all(isinstance(result, Exception) for result in results)
    pairs = zip(*map(flat_outputs, results), strict=True)
    return all(torch.equal(a.isfinite(), b.isfinite()) for a, b in pairs)


def _forms(args: Sequence[Tensor]) -> str:
    return ", ".join(f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for value in args)


def _brief(result: Any) -> str:
    return f"{type(result).__name__}: {result}"[:300] if isinstance(result, Exception) else "a result"


USES: Mapping[str, tuple[float, Callable[[Made, Draw], str | None]]] = {
    "save": (0.15, saved_alike), "deploy": (0.15, deployed_alike), "train": (0.15, learns),
    "transplant": (0.1, transplanted), "sizes": (0.3, at_other_sizes), "not finite": (0.3, not_finite_alike),
    "refuse": (0.2, refused),
}  # fmt: skip
"""What is done with some of the slim programs, and how often."""
