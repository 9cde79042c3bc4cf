"""Flush subnormal weights to zero: many processors compute with them far more slowly than with any other number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from swdc.errors import PassError
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import revise

_BITS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16}
"""Integers as wide as each type. float16 is not among them, because CPUs compute with it in float32, where its
subnormal numbers are normal."""


@dataclass(frozen=True)
class FlushSubnormals(Pass):
    """Set weights to zero whose magnitude is below the smallest normal number of their type (1.2e-38 in float32).

    A weight that decays towards zero passes through subnormal numbers on its way::

        conv.weight = [0.3, 1e-40, -2.1]      ->      conv.weight = [0.3, 0, -2.1]

    This applies to all parameters and buffers of types float32, float64 and bfloat16. Tensors without subnormal numbers
    are the given program's own.
    """

    def requires(self, program: Program) -> None:
        """Check that the program has values to flush."""
        need_values(program, PassError, "flushing subnormal weights")

    def apply(self, program: Program) -> PassResult:
        """Return a program without subnormal weights, or the given one if it has none."""
        tensors = program.tensors
        flushed: dict[int, torch.Tensor] = {}  # by identity, so that tied tensors stay tied
        for tensor in tensors.values():
            if id(tensor) not in flushed and bool((subnormal := _subnormal(tensor)).any()):
                zeroed = tensor.detach().masked_fill(subnormal, 0.0)
                is_parameter = isinstance(tensor, nn.Parameter)
                flushed[id(tensor)] = nn.Parameter(zeroed, tensor.requires_grad) if is_parameter else zeroed
        if not flushed:
            return PassResult(program, modified=False)
        return PassResult(revise(program, {n: flushed.get(id(t), t) for n, t in tensors.items()}), modified=True)

    def ensures(self, program: Program) -> None:
        """Check that no subnormal weight is left."""
        left = [name for name, tensor in program.tensors.items() if bool(_subnormal(tensor).any())]
        if left:
            raise PassError(f"expected no subnormal weights, {left[:3]} have some")


def _subnormal(tensor: torch.Tensor) -> torch.Tensor:
    """Return which elements are subnormal, by their bits: with flushing switched on, torch takes them for zeros."""
    if tensor.dtype not in _BITS:
        return torch.zeros(1, dtype=torch.bool)
    integers = _BITS[tensor.dtype]
    bits = tensor.detach().view(integers) & torch.iinfo(integers).max  # without the sign
    smallest = torch.tensor(torch.finfo(tensor.dtype).smallest_normal, dtype=tensor.dtype).view(integers)
    return (bits > 0) & (bits < smallest.to(bits.device))
