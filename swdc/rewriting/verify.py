"""Comparing a masked and a slim program, and the certificate of that comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from swdc.channels.kept import Kept
from swdc.errors import SwdcError, VerificationError
from swdc.ir.call import source_of
from swdc.ir.groups import READS, WRITES
from swdc.ir.options import RECORD
from swdc.ir.precision import default_dtype
from swdc.ir.program import Program
from swdc.ir.samples import flat_outputs, relative_error, sample_inputs
from swdc.ir.tensors import is_meta

TOLERANCE = 1e-9
"""Largest relative error in float64 that counts as rounding."""
LEAST_EFFECT = 1e-6
"""A mask that changes the output by less than this, relative to it, shows nothing about the rewrite."""


@dataclass(frozen=True)
class Comparison:
    """One run of both programs on the same inputs."""

    dtype: str
    mode: str
    batch: int
    relative_error: float


@dataclass(frozen=True)
class Certificate:
    """The comparison of a masked and a slim program.

    ``exact`` holds where every comparison in float64 agrees to ``tolerance`` and the removed channels matter: the
    masked program differs from the dense one by ``effect``, relative to its output. Where training left next to
    nothing in the removed channels, they are filled with random weights to measure that (``refilled``).
    """

    exact: bool
    max_relative_error: float
    max_relative_error_float32: float
    effect: float
    refilled: bool
    tolerance: float
    seed: int
    program_hash: str
    removed_channels: int
    comparisons: tuple[Comparison, ...]
    first_difference: str | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """Return the certificate that ``to_dict`` wrote."""
        comparisons = tuple(Comparison(**c) for c in data["comparisons"])
        return cls(**{**data, "comparisons": comparisons, "notes": tuple(data["notes"])})

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        filled = " (removed channels refilled with random weights)" if self.refilled else ""
        lines = [
            f"certificate: {verdict}, {self.removed_channels} channels removed",
            f"  largest relative error {self.max_relative_error:.2e} in float64 (tolerance {self.tolerance:.0e}), "
            f"{self.max_relative_error_float32:.2e} in float32",
            f"  effect of the mask on the output {self.effect:.2e}{filled}",
        ]
        lines += [f"  {c.dtype}, {c.mode}, batch {c.batch}: {c.relative_error:.2e}" for c in self.comparisons]
        if self.first_difference:
            lines.append(f"  first node that differs: {self.first_difference}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def check_certificate(program: Program, certificate: Certificate | None, error: type[SwdcError]) -> None:
    """Raise ``error`` for a certificate of another plan than the program was made with; none is fine."""
    if certificate is None:
        return
    plan = None if program.facts.origin is None else program.facts.origin.plan
    mine = None if plan is None else (plan.program_hash, plan.removed_channels)
    if mine != (certificate.program_hash, certificate.removed_channels):
        raise error(
            "expected a certificate of the plan that the program was made with, got one of another; give the "
            "certificate that swdc.verify returned for this program"
        )


def verify(
    masked: Program, slim: Program, batches: Sequence[int] = (1, 3), seed: int = 0, inputs: Any = None
) -> Certificate:
    """Compare a masked program with the slim one of the same plan, and certify the result.

    Both run in float64 and float32, in evaluation at each of ``batches``, and in training (dropout off, batch norms
    on batch statistics) at the largest of them. Inputs are random, of the form of the example inputs, or the
    positional ``inputs`` given. Neither program is changed.

    Raises ``VerificationError`` where ``masked`` was not made by ``swdc.mask``, or the two have different plans.
    """
    dense = _check(masked, slim)
    plan = masked.facts.origin.plan  # type: ignore[union-attr]
    notes: list[str] = []
    batches = _batches(masked, batches, inputs)
    settings = _settings(batches, masked, given=inputs is not None)
    with _copies(masked, slim, dtype=torch.float64) as (wide, small):
        comparisons, after = _compared(wide, small, torch.float64, settings, seed, inputs, notes)
        responds = _responds(wide, max(batches), seed)
    with _copies(masked, slim, dtype=torch.float32) as (one, other):
        comparisons += _compared(one, other, torch.float32, settings, seed, inputs, notes)[0]
    worst = {name: max(c.relative_error for c in comparisons if c.dtype == name) for name in ("float64", "float32")}
    effect, refilled = _effect(dense, masked, after, max(batches), seed, inputs)
    if effect < LEAST_EFFECT:
        notes.append("the mask does not change the output, so that the comparison shows nothing")
    if not responds:
        notes.append("the masked program gives the same output for any input, so that the comparison shows nothing")
    agree = worst["float64"] <= TOLERANCE
    return Certificate(
        exact=agree and effect >= LEAST_EFFECT and responds,
        max_relative_error=worst["float64"],
        max_relative_error_float32=worst["float32"],
        effect=effect,
        refilled=refilled,
        tolerance=TOLERANCE,
        seed=seed,
        program_hash=plan.program_hash,
        removed_channels=plan.removed_channels,
        comparisons=tuple(comparisons),
        first_difference=None if agree else _first_difference(masked, slim, _worst(comparisons), seed, inputs),
        notes=tuple(dict.fromkeys(notes)),
    )


def difference(
    before: Program,
    after: Program,
    exact: Mapping[str, torch.Tensor] | None = None,
    outputs: Sequence[int] | None = None,
    on_example: bool = False,
    batch: int = 2,
    seed: int = 0,
) -> float:
    """Return the relative error of a rewritten program in float64, in evaluation, on random inputs or on the example.

    ``exact`` are tensors of the rewritten one as they were before they were rounded; ``outputs`` says which of the
    tensors that the first returns the second does. Neither program is changed.
    """
    inputs = sample_inputs(before, batch, seed, torch.float64)
    if on_example and not any(t.is_meta for t in pytree.tree_leaves(before.facts.example) if torch.is_tensor(t)):
        inputs = _in_type(before.facts.example, torch.float64)
    with _copies(before, after, dtype=torch.float64) as (one, other):
        with torch.no_grad():
            tensors = other.tensors
            for name, value in (exact or {}).items():
                tensors[name].copy_(value)
        wanted, got = (flat_outputs(_called(p.eval(), inputs, seed, torch.float64)) for p in (one, other))
    return relative_error(wanted if outputs is None else [wanted[i] for i in outputs], got)


def _compared(
    masked: Program,
    slim: Program,
    dtype: torch.dtype,
    settings: Sequence[tuple[str, int]],
    seed: int,
    inputs: Any,
    notes: list[str],
) -> tuple[list[Comparison], Any]:
    """Compare two programs that compute in ``dtype``; also return what the masked one does at the largest batch."""
    comparisons: list[Comparison] = []
    outputs: Any = None
    for mode, batch in settings:
        try:
            wanted, got = (_run(p, mode, batch, seed, dtype, inputs) for p in (masked, slim))
        except (RuntimeError, ValueError) as failure:
            if mode == "eval":
                raise
            notes.append(f"not compared in training: {str(failure).splitlines()[0]}")
            continue
        if mode == "eval":
            outputs = wanted
        error = relative_error(wanted, got)
        comparisons.append(Comparison(str(dtype).removeprefix("torch."), mode, batch, error))
    return comparisons, outputs


def _check(masked: Program, slim: Program) -> Program:
    """Return the dense program; raise ``VerificationError`` where the two cannot be compared."""
    origin = masked.facts.origin
    if origin is None or not isinstance(origin.dense, Program):
        raise VerificationError("expected a masked program as made by swdc.mask, got another; mask it with the plan")
    if slim.facts.origin is not None and slim.facts.origin.dense is not None:
        raise VerificationError("expected a slim program as made by swdc.slim, got a masked one; slim it with the plan")
    if is_meta(masked) or is_meta(slim):
        raise VerificationError("expected programs with values, got one on the meta device; give it values first")
    if slim.facts.origin is None or slim.facts.origin.plan.to_dict() != origin.plan.to_dict():
        raise VerificationError(
            "expected a masked and a slim program of the same plan, got different ones; make both with one plan"
        )
    return origin.dense


def _batches(program: Program, batches: Sequence[int], inputs: Any) -> tuple[int, ...]:
    """Return the batch sizes to compare: that of the inputs where they are given, one where there is no batch."""
    if program.facts.batch is None:
        return (1,)
    given = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.dim() > 0]
    if given:
        return (int(given[0].shape[0]),)
    if not batches or min(batches) < 1:
        raise VerificationError(f"expected batch sizes of at least 1, got {tuple(batches)}; give one or more")
    return tuple(batches)


def _settings(batches: Sequence[int], program: Program, given: bool) -> list[tuple[str, int]]:
    if program.facts.captured_by == RECORD:
        return [("eval", batch) for batch in sorted(batches)]
    training = max(batches) if given or program.facts.batch is None else max(2, *batches)
    return [*(("eval", batch) for batch in sorted(batches)), ("train", training)]


@contextmanager
def _copies(*programs: Program, dtype: torch.dtype) -> Iterator[list[Program]]:
    """Give copies of programs that compute in ``dtype``, and their memory back at the end.

    Graphs refer to themselves, so that Python would keep copies until it collects garbage: gigabytes of a large model.
    """
    copies = [_in(program, dtype) for program in programs]
    try:
        yield copies
    finally:
        for tensor in (tensor for copy in copies for tensor in copy.tensors.values()):
            tensor.data = tensor.new_empty(0)


def _in(program: Program, dtype: torch.dtype) -> Program:
    """Return a copy of a program that computes in ``dtype`` throughout and drops nothing in training."""
    copy = program.clone(dtype)

    def cast(argument: Any) -> Any:
        return dtype if argument in (torch.float32, torch.float64) and isinstance(argument, torch.dtype) else argument

    for node in copy.graph.nodes:
        if node.op == "call_function":
            node.args = map_aggregate(node.args, cast)
            node.kwargs = map_aggregate(node.kwargs, cast)
    copy.recompile()
    if dtype == torch.float64:
        _unround(program, copy)
    for module in copy.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
            module.p = 0.0
    return copy


def _unround(program: Program, copy: Program) -> None:
    """Give biases that a rewrite computed the value that they had before they were rounded for storage."""
    origin = program.facts.origin
    stored, tensors = program.tensors, copy.tensors
    with torch.no_grad():
        for name, value in origin.folded.items() if origin is not None else ():
            if torch.equal(value.to(stored[name].dtype), stored[name].detach()):
                tensors[name].copy_(value)


def _run(program: Program, mode: str, batch: int, seed: int, dtype: torch.dtype, inputs: Any) -> Any:
    return _called(program.train(mode == "train"), _inputs(program, batch, seed, dtype, inputs), seed, dtype)


def _called(program: Program, inputs: Any, seed: int, dtype: torch.dtype) -> Any:
    """Return what a program computes from positional and keyword inputs, whatever it draws drawn by a seed."""
    args, kwargs = inputs
    with torch.no_grad(), torch.random.fork_rng(devices=[]), default_dtype(dtype):
        torch.manual_seed(seed)
        try:
            return pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, program(*args, **kwargs))
        except (RuntimeError, IndexError, ValueError) as error:
            if program.facts.captured_by != RECORD:
                raise
            raise VerificationError(
                f"expected a recorded program to run with other weights, but its sizes depend on the values that it "
                f"computes ({str(error).splitlines()[0]}); slim and compare the model itself with swdc.transplant"
            ) from error


def _inputs(program: Program, batch: int, seed: int, dtype: torch.dtype, inputs: Any) -> Any:
    if inputs is None:
        return sample_inputs(program, batch, seed, dtype)
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    return _in_type(given, dtype), {}


def _in_type(inputs: Any, dtype: torch.dtype) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, inputs)


def _effect(dense: Program, masked: Program, after: Any, batch: int, seed: int, inputs: Any) -> tuple[float, bool]:
    """Return how much removed channels matter to the output, and whether they had to be refilled to tell.

    ``after`` is what the masked program computes.
    """
    with _copies(dense, dtype=torch.float64) as (program,):
        before = _run(program, "eval", batch, seed, torch.float64, inputs)
    effect = relative_error(before, after)
    if effect >= LEAST_EFFECT:
        return effect, False
    refilled = _run(_refilled(masked, seed), "eval", batch, seed, torch.float64, inputs)
    return relative_error(refilled, after), True


def _responds(masked: Program, batch: int, seed: int) -> bool:
    """Whether the output of the masked program depends on its input at all; a recorded one has but one input."""
    if masked.facts.captured_by == RECORD:
        return True
    # anew, for a run in training has moved the statistics of batch norms
    first = _run(masked, "eval", batch, seed, torch.float64, None)
    if relative_error(first, _run(masked, "eval", batch, seed + 1, torch.float64, None)) > 0:
        return True
    args, kwargs = sample_inputs(masked, batch, seed, torch.float64, shuffle=False)  # the order may not matter
    with torch.no_grad(), default_dtype(torch.float64):
        return relative_error(first, masked(*args, **kwargs)) > 0


def _refilled(masked: Program, seed: int) -> Program:
    """Return a copy in float64 whose removed channels have random weights, about as large as the kept ones."""
    program = _in(masked, torch.float64)
    plan = masked.facts.origin.plan  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(seed)
    tensors = program.tensors
    with torch.no_grad():
        for group in masked.groups:
            removed = np.setdiff1d(np.arange(group.width), plan.kept.get(group.name, np.arange(group.width)))
            for member in group.members if len(removed) else ():
                tensor = tensors[member.tensor]
                if not member.roles & {WRITES, READS}:
                    continue
                indices = torch.from_numpy(member.indices[removed].ravel())
                part = tensor.index_select(member.dim, indices)
                spread = float(tensor.square().mean().sqrt()) or 1.0
                tensor.index_copy_(member.dim, indices, torch.randn(part.shape, generator=generator).to(part) * spread)
    return program


class _Values(fx.Interpreter):
    """Keeps the value of every node."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


def _worst(comparisons: Sequence[Comparison]) -> Comparison:
    return max((c for c in comparisons if c.dtype == "float64"), key=lambda c: c.relative_error)


def _first_difference(masked: Program, slim: Program, run: Comparison, seed: int, inputs: Any) -> str | None:
    """Return the first node at which the kept channels of both programs differ in a run, with its source."""
    plan = masked.facts.origin.plan  # type: ignore[union-attr]
    kept = Kept(masked.coupling, masked.coupling.keep(plan.kept))
    runs = []
    for program in (masked, slim):
        copy = _in(program, torch.float64).train(run.mode == "train")
        args, kwargs = _inputs(copy, run.batch, seed, torch.float64, inputs)
        values = _Values(copy)
        with torch.no_grad():
            values.run(*pytree.tree_leaves((args, kwargs)), enable_io_processing=False)
        runs.append(values.values)
    for node in masked.graph.nodes:
        one, other = (values.get(node.name) for values in runs)
        if node.op == "get_attr" or not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue
        for dim in range(one.dim()):
            mask = kept.mask(node, dim)
            if mask is not None:
                one = one.index_select(dim, torch.from_numpy(mask.nonzero()[0]))
        if relative_error(one.double(), other.double()) > TOLERANCE:
            source = source_of(node)
            return f"{node.name} ({node.target})" + (f" at {source}" if source else "")
    return None
