"""Which operators a program that was read from a folder may call: those that compute, and do nothing else."""

from __future__ import annotations

from typing import Any

import torch

from swdc.ops.base import OPERATORS, name_of

_NAMESPACES = ("aten", "prims", "torchvision")
_CHECKS = ("_assert_", "sym_constrain_range", "_validate_", "_linalg_check_errors")
_BEYOND_VALUES = tuple(
    f"aten::{name}"
    for name in "set_data set_ retain_grad record_stream requires_grad_ pin_memory _pin_memory get_gradients".split()
)
"""Operators that change what a tensor is, rather than its values."""


def is_trusted(target: torch._ops.OpOverload) -> bool:
    """Whether an operator belongs to torch or torchvision, or is registered with swdc."""
    return target.namespace in _NAMESPACES or name_of(target) in OPERATORS.operators


def only_computes(target: torch._ops.OpOverload) -> bool:
    """Whether a call can do no more than return tensors and numbers, write into its arguments, or fail.

    Operators of TorchScript are refused as a whole: among them are those that set the seed, turn gradients off, or
    save. So are operators that read a file, and those that return nothing and write into nothing.
    """
    if name_of(target) in OPERATORS.operators and not _opens_files(target):
        return True
    name = f"{target._schema.name}.{target._schema.overload_name}".rstrip(".")
    known = bool(torch._C._dispatch_has_kernel(name))
    return known and not _opens_files(target) and _has_result(target._schema)


def _opens_files(target: torch._ops.OpOverload) -> bool:
    return any("file" in argument.name for argument in target._schema.arguments)


def _has_result(schema: Any) -> bool:
    if schema.name in _BEYOND_VALUES:
        return False
    written = any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments)
    return bool(schema.returns) or written or schema.name.partition("::")[2].startswith(_CHECKS)
