"""Where rounding decides what a program computes, as in selections between equal values, two right ones may differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.ir.call import bind, source_of
from swdc.ir.differences import widened
from swdc.ir.dtypes_and_devices import default_dtype
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.ops.in_place import operator_of
from swdc.rewriting.cases import Case
from swdc.rewriting.certificate import FACTOR, TOLERANCE
from swdc.rewriting.runs import WIDE, OwnTypesIfRefused, copies_in, floats_in

_CLOSE = 2.0**-40
"""Values that differ by less, relative to the largest of them, are equal up to rounding in float64."""


AMPLIFIED = "no input lets the model amplify rounding beyond the tolerance"
"""What inputs must not do where the masked program itself changes as far as the slim one differs."""


@dataclass(frozen=True)
class Ties:
    """Selections of a program between values that are equal up to rounding, in one case.

    ``samples`` says for each sample of the batch whether there is one; ``lines`` are those of the code that selects.
    """

    samples: torch.Tensor
    lines: tuple[str, ...]

    @property
    def assumption(self) -> str:
        """What inputs must not do, for the programs to be comparable on them."""
        return f"no input lets a selection choose between equal values ({', '.join(self.lines[:3])})"


def ties_of(masked: Program, case: Case, seed: int) -> Ties | None:
    """Return the selections of a program between equal values in a case, in float64; ``None`` if there are none."""
    if not any(_selected(node) for node in masked.graph.nodes):
        return None
    with copies_in(masked, dtype=WIDE) as (copy,):
        run = _Selections(copy.eval(), case.batch)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), default_dtype(WIDE):
            seed_all(seed)
            run.run(*pytree.tree_leaves(floats_in(case.inputs, WIDE)), enable_io_processing=False)
    return Ties(run.samples, tuple(run.lines)) if run.lines else None


def without_ties(
    errors: list[torch.Tensor],
    masked: Sequence[torch.Tensor],
    slim: Sequence[torch.Tensor],
    draws: Sequence[Sequence[torch.Tensor]],
    ties: Ties,
) -> list[torch.Tensor]:
    """Return errors, zero in the samples where rounding decides what the masked program itself computes.

    These have a selection between equal values, and the masked program with all numbers moved by some units
    (``draws``) changes there about as much as the slim one differs. Without a selection nothing is left out.
    """
    left = []
    for error, one, other, moved in _comparable(errors, masked, slim, draws):
        if moved is None:
            left.append(error)
            continue
        samples = ties.samples if one.dim() and one.shape[0] == len(ties.samples) else ties.samples.any()[None]
        size, apart = _farthest(one, torch.zeros_like(one), len(samples)), _farthest(one, other, len(samples))
        jump = torch.stack([torch.zeros_like(apart), *(_farthest(one, each, len(samples)) for each in moved)]).amax(0)
        decided = samples & (jump > TOLERANCE * size) & (apart <= FACTOR * jump)
        by_sample = decided.view(-1, *[1] * (max(one.dim(), 1) - 1))
        left.append(torch.where(by_sample, 0.0, error.reshape(one.shape or (1,))))
    return left


def without_amplified(
    errors: list[torch.Tensor],
    masked: Sequence[torch.Tensor],
    slim: Sequence[torch.Tensor],
    draws: Sequence[Sequence[torch.Tensor]],
) -> list[torch.Tensor]:
    """Return errors, zero in the elements in which the masked program changes about as much if rounded otherwise.

    ``draws`` are its results with all numbers moved by some units. An element that rounding does not move, or that is
    not finite in any of them, is judged, whatever becomes of those beside it.
    """
    left = []
    for error, one, other, moved in _comparable(errors, masked, slim, draws):
        if moved:
            jump, apart = torch.stack([_apart(one, each) for each in moved]).amax(0), _apart(one, other)
            error = torch.where(jump.isfinite() & (apart <= FACTOR * jump), 0.0, error.reshape(one.shape))
        left.append(error)
    return left


def _comparable(
    errors: Sequence[torch.Tensor],
    masked: Sequence[torch.Tensor],
    slim: Sequence[torch.Tensor],
    draws: Sequence[Sequence[torch.Tensor]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor] | None]]:
    """Yield each error with both results and those of the draws; ``None`` for these if shapes differ."""
    shapes = [tensor.shape for tensor in masked]
    moved = [draw for draw in draws if [tensor.shape for tensor in draw] == shapes]
    for number, (error, one, other) in enumerate(zip(errors, masked, slim, strict=True)):
        fits = error.shape == one.shape == other.shape and one.numel() > 0
        yield error, one, other, [draw[number] for draw in moved] if fits else None


def _apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (widened(one) - widened(other)).abs().nan_to_num(float("inf"))


def _farthest(one: torch.Tensor, other: torch.Tensor, samples: int) -> torch.Tensor:
    """Return the largest difference of two results in each sample; infinite where one of them is not finite."""
    return _apart(one, other).reshape(samples, -1).amax(1)


class _Selections(OwnTypesIfRefused):
    """Looks at the values between which each call selects."""

    def __init__(self, program: Program, batch: int) -> None:
        super().__init__(program, WIDE)
        self.samples = torch.zeros(batch, dtype=torch.bool)
        self.lines: dict[str, None] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Return the result of a node."""
        chosen = _selected(n)
        if chosen is not None:
            self._look(n, *chosen)
        return super().run_node(n)

    def _look(self, node: fx.Node, number: int | None, largest: bool) -> None:
        arguments = bind(node)
        values = self.env[node.all_input_nodes[0]]
        if not isinstance(values, torch.Tensor) or not values.is_floating_point() or not values.numel():
            return
        dim = arguments.get("dim")
        values = values.flatten() if dim is None and "k" not in arguments else values
        ordered = values.movedim(-1 if dim is None else int(dim), -1).sort(-1, descending=largest).values
        size = ordered.abs().nan_to_num(0, 0, 0).amax(-1, keepdim=True)
        ordered = ordered if number is None else ordered[..., : number + 1]
        equal = ordered.diff(dim=-1).abs() <= _CLOSE * size
        if bool(equal.any()):
            self.lines[source_of(node) or node.name] = None
            by_sample = values.dim() > 1 and values.shape[0] == len(self.samples) and dim not in (0, -values.dim())
            self.samples |= equal.flatten(1).any(1) if by_sample else torch.ones_like(self.samples)


def _selected(node: fx.Node) -> tuple[int | None, bool] | None:
    """Return how many values a call selects by size, and whether the largest; ``None`` if it selects none."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    return operator_of(node.target).selects(node.target, bind(node))
