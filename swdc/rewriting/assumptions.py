"""What a certificate assumes of inputs, because the masked and the slim program differ where it does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from swdc.ir.program import Program
from swdc.rewriting.cases import CORNERS, Case, has_foreign_kernels, result_of
from swdc.rewriting.certificate import TOLERANCE
from swdc.rewriting.corners import corners
from swdc.rewriting.rounding import largest, wide_errors
from swdc.rewriting.runs import WIDE

NO_NAN, NO_INFINITY = "no input holds NaN", "no input holds infinity"


def assumptions_of(masked: Program, slim: Program, seed: int, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Return the numbers that no input may hold, in words; both programs are in float64, tried at ``sizes``.

    A removed channel of the masked program is computed, with weights of zero, and zero times infinity is NaN; the slim
    program has no such channel. Whether this shows depends on where the infinity stands, so that it is always assumed
    away. NaN is assumed away if the two differ with it at some places of the inputs, in what is finite or, after a
    comparison or a cast, in value. Programs with kernels of other packages are not run on it.
    """
    with_nan = corners(masked, seed, finite=False, sizes=sizes)
    if not with_nan or not masked.facts.origin.plan.removed_channels:  # type: ignore[union-attr]
        return ()
    if has_foreign_kernels(masked) or not all(_alike_on(masked, slim, case, seed) for case in with_nan):
        return NO_NAN, NO_INFINITY
    return (NO_INFINITY,)


def _alike_on(masked: Program, slim: Program, corner: tuple[tuple[str, ...], Any], seed: int) -> bool:
    """Whether both compute the same on a corner, or the masked program refuses it."""
    names, inputs = corner
    case = Case(CORNERS, len(names), inputs, names)
    one, other = (result_of(program, case, seed, WIDE) for program in (masked, slim))
    return one.error is not None or (other.error is None and _alike(one.outputs, other.outputs))


def _alike(masked: list[torch.Tensor], slim: list[torch.Tensor]) -> bool:
    """Whether both are finite at the same places, and equal there: a comparison makes a finite number of NaN."""
    if [one.shape for one in masked] != [other.shape for other in slim]:
        return False
    if not all(torch.equal(one.isfinite(), other.isfinite()) for one, other in zip(masked, slim, strict=True)):
        return False
    one, other = ([torch.where(t.isfinite(), t, 0) for t in side] for side in (masked, slim))
    return largest(wide_errors(one, other)) <= TOLERANCE
