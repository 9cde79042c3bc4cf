"""How the results of a model and of its program differ."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.errors import brief


def difference(wanted: Any, got: Any) -> str | None:
    """Return how two nested results differ; ``None`` if they are equal up to rounding, or if both are errors."""
    if isinstance(wanted, Exception) or isinstance(got, Exception):
        return None if isinstance(wanted, Exception) and isinstance(got, Exception) else _failing(wanted, got)
    one, other = pytree.tree_leaves(wanted), pytree.tree_leaves(got)
    if len(one) != len(other):
        return f"in the structure of the result: {len(one)} parts are {len(other)}"
    found = (_apart(a, b) for a, b in zip(one, other, strict=True))
    return next((f"in output {number}: {text}" for number, text in enumerate(found) if text), None)


def _failing(wanted: Any, got: Any) -> str:
    if isinstance(wanted, Exception):
        return f"on which the model fails with {brief(wanted)}"
    return f"on which the program fails with {brief(got)}"


def _apart(one: Any, other: Any) -> str | None:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        known = isinstance(one, str | int | float | complex | None) and one == one
        return f"{one} is {other}" if known and (type(one) is not type(other) or one != other) else None
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype} {tuple(one.shape)} is {other.dtype} {tuple(other.shape)}"
    error = _error(dense(one), dense(other))
    return f"relative error {error:.1e}" if error > _tolerance(one.dtype) else None


def _tolerance(dtype: torch.dtype) -> float:
    """Return half of the digits of a type: program and model round alike, except where kernels depend on the mode."""
    return float(torch.finfo(dtype).eps ** 0.5) if dtype.is_floating_point or dtype.is_complex else 0.0


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of real numbers in the usual layout."""
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _error(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference over the largest magnitude; infinite if NaNs or infinities do not match."""
    if one.numel() == 0 or torch.equal(one, other):
        return 0.0
    a, b = one.double(), other.double()
    finite = a.isfinite() & b.isfinite()
    if not bool((finite | (a == b) | (a.isnan() & b.isnan())).all()):
        return float("inf")
    a, b = a[finite], b[finite]
    return float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo().tiny)) if a.numel() else 0.0
