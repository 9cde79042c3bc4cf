"""What a certificate assumes of inputs, because the masked and the slim program differ where it does not hold."""

from __future__ import annotations

import torch

from swdc.ir.program import Program
from swdc.rewriting.cases import CORNERS, Case, result_of
from swdc.rewriting.certificate import TOLERANCE
from swdc.rewriting.corners import NOT_FINITE, corners
from swdc.rewriting.rounding import largest, wide_errors
from swdc.rewriting.runs import WIDE

_TORCH = ("aten", "prims")


def assumptions_of(masked: Program, slim: Program, seed: int) -> tuple[str, ...]:
    """Return the numbers that no input may hold, in words; both programs are in float64.

    A removed channel of the masked program is computed, with weights of zero, and zero times infinity is NaN; the slim
    program has no such channel. So the two may differ in where their outputs are finite once an input is not, or, after
    a comparison or a cast, in what is finite. Programs with kernels of other packages are not run on such inputs, so
    that both are assumed.
    """
    if _has_foreign_kernels(masked):
        return tuple(_assume(name) for name in NOT_FINITE)
    found = []
    for names, inputs in corners(masked, seed, finite=False, together=False):
        case = Case(CORNERS, 1, inputs, names)
        one, other = (result_of(program, case, seed, WIDE) for program in (masked, slim))
        if one.error is None and (other.error is not None or not _alike(one.outputs, other.outputs)):
            found.append(_assume(names[0]))
    return tuple(found)


def _assume(name: str) -> str:
    return f"no input holds {name}"


def _has_foreign_kernels(program: Program) -> bool:
    """Whether a program calls a kernel of another package, which may read outside of its memory at a NaN."""
    called = (node.target for node in program.graph.nodes if node.op == "call_function")
    return any(isinstance(target, torch._ops.OpOverload) and target.namespace not in _TORCH for target in called)


def _alike(masked: list[torch.Tensor], slim: list[torch.Tensor]) -> bool:
    """Whether both are finite at the same places, and equal there: a comparison makes a finite number of NaN."""
    if [one.shape for one in masked] != [other.shape for other in slim]:
        return False
    if not all(torch.equal(one.isfinite(), other.isfinite()) for one, other in zip(masked, slim, strict=True)):
        return False
    one, other = ([torch.where(t.isfinite(), t, 0) for t in side] for side in (masked, slim))
    return largest(wide_errors(one, other)) <= TOLERANCE
