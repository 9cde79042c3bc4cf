"""The difference of two outputs, as one number."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.ir.plain_results import plain


def flat_outputs(result: Any) -> list[torch.Tensor]:
    """Return the tensors of a possibly nested output, in order, including those inside objects (a cache)."""
    return [leaf for leaf in pytree.tree_leaves(plain(result)) if isinstance(leaf, torch.Tensor)]


def widened(values: torch.Tensor) -> torch.Tensor:
    """Return values in float64, complex ones in complex128, without their gradients."""
    return values.detach().to(torch.complex128 if values.is_complex() else torch.float64)


def relative_error(expected: Any, actual: Any) -> float:
    """Return the largest difference of two nested outputs, over the largest magnitude of each expected tensor.

    If an expected tensor is all zeros, the difference itself counts. If shapes, NaNs or infinities do not match, the
    error is infinite.
    """
    wanted, got = flat_outputs(expected), flat_outputs(actual)
    if [t.shape for t in wanted] != [t.shape for t in got]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, got, strict=True):
        if one.numel() == 0:
            continue
        a, b = widened(one), widened(other)
        if not bool(((a == b) | (a.isnan() & b.isnan()) | (a.isfinite() & b.isfinite())).all()):
            return float("inf")
        a, b = a[a.isfinite()], b[b.isfinite()]
        if a.numel() == 0:
            continue
        scale = float(a.abs().max())
        worst = max(worst, float((a - b).abs().max()) / (scale or 1.0))
    return worst
