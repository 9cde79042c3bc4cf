"""Tensors that no program computes with: such without values, and such without one shape."""

from __future__ import annotations

import torch

from swdc.errors import InputError
from swdc.ir.module_tensors import is_meta, tensors_of


def check_kind(program: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    """Raise ``InputError`` for a nested tensor, and for one on the meta device if the program is not there."""
    if value.is_nested:
        raise InputError(
            f"expected {name} as a tensor of one shape, got a nested tensor; give its parts one by one, or pad it with "
            f"torch.nested.to_padded_tensor"
        )
    if value.is_meta and tensors_of(program) and not is_meta(program):
        raise InputError(
            f"expected {name} with values, as the program has them, got a tensor on the meta device; give one with "
            f"values, or move the program with program.to('meta')"
        )
