"""How many windows a convolution or a pool lays along each dimension; sizes may be symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def windows_along(
    sizes: Sequence[Any],
    kernel: Sequence[Any],
    stride: Sequence[Any],
    padding: Sequence[Any],
    dilation: Sequence[Any],
    ceil_mode: bool = False,
) -> list[Any]:
    """Return the number of windows along each dimension, which is at least one.

    If it is rounded up, the last window begins within the input or the padding before it.
    """
    found = []
    for size, taps, step, around, apart in zip(sizes, kernel, stride, padding, dilation, strict=True):
        covered = size + 2 * around - apart * (taps - 1) - 1
        many = covered // step + 1
        if ceil_mode:
            rounded = (covered + step - 1) // step + 1
            many = torch.sym_min(rounded, (size + around - 1) // step + 1)
        torch._check(many >= 1)
        found.append(many)
    return found


def convolved_sizes(x: torch.Tensor, weight: torch.Tensor, options: Sequence[Any]) -> list[Any] | None:
    """Return the sizes that a convolution returns; ``None`` if its padding is no number, or if it cannot run.

    ``options`` are stride, padding and dilation, one number for each dimension, and the number of groups.
    """
    stride, padding, dilation, groups = options
    rank = weight.dim() - 2
    if isinstance(padding, str) or x.dim() not in (rank + 1, rank + 2):
        return None
    samples, channels, sizes = x.shape[: -rank - 1], x.shape[-rank - 1], x.shape[-rank:]
    if channels != weight.shape[1] * groups:
        return None
    return [*samples, weight.shape[0], *windows_along(sizes, weight.shape[2:], stride, padding, dilation)]
