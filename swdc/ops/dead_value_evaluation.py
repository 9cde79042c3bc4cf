"""What an operator returns for dead values of its operands, as torch computes it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from swdc.ir.call import Call, Value
from swdc.ir.dtypes_and_devices import default_dtype
from swdc.ops.base import target_of


def in_kind(dead: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return dead values in the kind of type that the operator takes: bool, integer, float64 or complex128."""
    if dtype.is_complex:
        return dead.to(torch.complex128)
    return dead if dtype.is_floating_point else dead.nan_to_num().to(dtype)


def signed(held: torch.Tensor) -> list[torch.Tensor]:
    """Return values with positive zeros, and with negative ones, in each part of complex numbers."""
    if held.is_complex():
        return [torch.complex(*parts) for parts in product(signed(held.real), signed(held.imag))]
    return [held, torch.where(held == 0, -0.0, held)] if held.is_floating_point() else [held]


def computed(call: Call, operands: list[Value], held: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what a call gives for values of its operands, in float64; infinity if it refuses them."""
    replaced = {id(operand): values for operand, values in zip(operands, held, strict=True)}
    target: Any = target_of(call.operator)
    arguments = {k: replaced.get(id(v), _exact(v)) for k, v in call.arguments.items()}
    positional = [arguments.pop(a.name) for a in target._schema.arguments if not a.kwarg_only]
    try:
        with default_dtype(torch.float64):
            return _real(target(*positional, **arguments))
    except RuntimeError:  # integers are divided by zero
        return torch.full(np.broadcast_shapes(*(values.shape for values in held)), torch.inf, dtype=torch.float64)


def _real(result: torch.Tensor) -> torch.Tensor:
    """Return results in float64, NaN for those that are not real."""
    if result.is_complex():
        return torch.where(result.imag == 0, result.real, torch.nan).to(torch.float64)
    return result.to(torch.float64)


def _exact(argument: Any) -> Any:
    """Replace devices by the CPU and floating types by float64: type and device of a run are not known here."""
    if isinstance(argument, torch.device):
        return torch.device("cpu")
    return torch.float64 if isinstance(argument, torch.dtype) and argument.is_floating_point else argument
