"""What a certificate assumes of inputs, because the masked and the slim program differ where it does not hold."""

from __future__ import annotations

import torch

from swdc.ir.program import Program
from swdc.rewriting.cases import CORNERS, Case, result_of
from swdc.rewriting.corners import corners
from swdc.rewriting.runs import WIDE


def assumptions_of(masked: Program, slim: Program, seed: int) -> tuple[str, ...]:
    """Return the numbers that no input may hold, in words; both programs are in float64.

    A removed channel of the masked program is computed, with weights of zero, and zero times infinity is NaN; the slim
    program has no such channel. So the two may differ in where their outputs are finite once an input is not.
    """
    found = []
    for names, inputs in corners(masked, seed, finite=False, together=False):
        case = Case(CORNERS, 1, inputs, names)
        one, other = (result_of(program, case, seed, WIDE) for program in (masked, slim))
        if one.error is None and (other.error is not None or not _alike(one.outputs, other.outputs)):
            found.append(f"no input holds {names[0]}")
    return tuple(found)


def _alike(masked: list[torch.Tensor], slim: list[torch.Tensor]) -> bool:
    pairs = zip(masked, slim, strict=True)
    return all(one.shape == other.shape and torch.equal(one.isfinite(), other.isfinite()) for one, other in pairs)
