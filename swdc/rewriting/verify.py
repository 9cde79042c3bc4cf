"""Compares a masked and a slim program, and certifies the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.errors import VerificationError
from swdc.ir.argument_types import checked
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.module_tensors import is_meta
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.certificate import LEAST_EFFECT, TOLERANCE, Certificate, Comparison
from swdc.rewriting.first_difference import first_difference
from swdc.rewriting.mask_effect import effect_of, responds
from swdc.rewriting.runs import called, copies_in, floats_in, run_in


@checked(VerificationError)
def verify(
    masked: Program, slim: Program, batches: Sequence[int] = (1, 3), seed: int = 0, inputs: Any = None
) -> Certificate:
    """Compare a masked program with the slim one of the same plan, and certify the result.

    Both run in float64 and float32, in evaluation at each of ``batches``, and in training (dropout off, batch norms
    on batch statistics) at the largest of them. Inputs are random, of the form of the example inputs, or the
    positional ``inputs`` given. Neither program is changed.

    Raises ``VerificationError`` if ``masked`` was not made by ``swdc.mask``, or the two have different plans.
    """
    dense = _check(masked, slim)
    plan = masked.facts.origin.plan  # type: ignore[union-attr]
    notes: list[str] = []
    batches = _batches(masked, batches, inputs)
    settings = _settings(batches, masked, given=inputs is not None)
    with copies_in(masked, slim, dtype=torch.float64) as (wide, small):
        comparisons, after = _compared(wide, small, torch.float64, settings, seed, inputs, notes)
        answers = responds(wide, max(batches), seed)
    with copies_in(masked, slim, dtype=torch.float32) as (one, other):
        comparisons += _compared(one, other, torch.float32, settings, seed, inputs, notes)[0]
    worst = {name: max(c.relative_error for c in comparisons if c.dtype == name) for name in ("float64", "float32")}
    effect, refilled = effect_of(dense, masked, after, max(batches), seed, inputs)
    if effect < LEAST_EFFECT:
        notes.append("the mask does not change the output, so that the comparison shows nothing")
    if not answers:
        notes.append("the masked program gives the same output for any input, so that the comparison shows nothing")
    agree = worst["float64"] <= TOLERANCE
    return Certificate(
        exact=agree and effect >= LEAST_EFFECT and answers,
        max_relative_error=worst["float64"],
        max_relative_error_float32=worst["float32"],
        effect=effect,
        refilled=refilled,
        tolerance=TOLERANCE,
        seed=seed,
        program_hash=plan.program_hash,
        removed_channels=plan.removed_channels,
        comparisons=tuple(comparisons),
        first_difference=None if agree else first_difference(masked, slim, _worst(comparisons), seed, inputs),
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

    ``exact`` holds tensors of the rewritten program before they were rounded; ``outputs`` says which of the tensors
    that ``before`` returns are returned by ``after``. Neither program is changed.
    """
    inputs = sample_inputs(before, batch, seed, torch.float64)
    if on_example and not any(t.is_meta for t in pytree.tree_leaves(before.facts.example) if torch.is_tensor(t)):
        inputs = floats_in(before.facts.example, torch.float64)
    with copies_in(before, after, dtype=torch.float64) as (one, other):
        with torch.no_grad():
            tensors = other.tensors
            for name, value in (exact or {}).items():
                tensors[name].copy_(value)
        wanted, got = (flat_outputs(called(p.eval(), inputs, seed, torch.float64)) for p in (one, other))
    return relative_error(wanted if outputs is None else _chosen(wanted, outputs, len(got)), got)


def _chosen(wanted: Sequence[torch.Tensor], outputs: Sequence[int], number: int) -> list[torch.Tensor]:
    """Return some outputs of each call; ``number`` are wanted in all."""
    each = len(wanted) * len(outputs) // number
    return [wanted[first + i] for first in range(0, len(wanted), each) for i in outputs]


def _compared(
    masked: Program,
    slim: Program,
    dtype: torch.dtype,
    settings: Sequence[tuple[str, int]],
    seed: int,
    inputs: Any,
    notes: list[str],
) -> tuple[list[Comparison], Any]:
    """Compare two programs that compute in ``dtype``; also return the masked one's output at the largest batch."""
    comparisons: list[Comparison] = []
    outputs: Any = None
    for mode, batch in settings:
        try:
            wanted, got = (run_in(p, mode, batch, seed, dtype, inputs) for p in (masked, slim))
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
    """Return the dense program; raise ``VerificationError`` if the two cannot be compared."""
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
    """Return the batch sizes to compare: that of the given inputs if any; 1 if there is no batch."""
    if program.facts.batch is None:
        return (1,)
    given = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.dim() > 0]
    if given:
        return (int(given[0].shape[0]),)
    if not batches or min(batches) < 1:
        raise VerificationError(f"expected batch sizes of at least 1, got {tuple(batches)}; give one or more")
    return tuple(batches)


def _settings(batches: Sequence[int], program: Program, given: bool) -> list[tuple[str, int]]:
    if program.facts.example_only:
        return [("eval", batch) for batch in sorted(batches)]
    training = max(batches) if given or program.facts.batch is None else max(2, *batches)
    return [*(("eval", batch) for batch in sorted(batches)), ("train", training)]


def _worst(comparisons: Sequence[Comparison]) -> Comparison:
    return max((c for c in comparisons if c.dtype == "float64"), key=lambda c: c.relative_error)
