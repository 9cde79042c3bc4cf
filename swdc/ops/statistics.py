"""Norms and statistics that keep the divisor of the original channels.

Removed channels count as zeros. If k of n elements are left, K is the set of these, and s = k / n, then

    mean(x) = s mean_K(x) = m        var(x) = s mean_K((x - m)^2) + (1 - s) m^2        mean(x^2) = s mean_K(x^2)

so the statistic over all n elements is computed from the k that are left. The variance is a sum of squares, never a
difference of two. All modules consist of plain tensor operators, and behave the same in training and in evaluation.
Norms and variances are computed at least in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

Widths = Sequence[int | None]
"""The original size of each dimension of a value; ``None`` if it has not changed."""


def share_left(x: torch.Tensor, dims: Sequence[int], widths: Widths) -> float:
    """Return the share of the original elements along ``dims`` that is left."""
    share = 1.0
    for dim in dims:
        width = widths[dim]
        if width is not None:
            share *= x.shape[dim] / width
    return share


def moments(x: torch.Tensor, dims: list[int], share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance along ``dims``, which are kept with size one."""
    mean = x.mean(dims, keepdim=True) * share
    variance = (x - mean).square().mean(dims, keepdim=True) * share
    return mean, variance + mean.square() * (1 - share)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Statistic(nn.Module):
    """Base of the statistics along some dimensions, or along all if ``dim`` is ``None``."""

    def __init__(self, dim: Sequence[int] | None, keepdim: bool, widths: Widths) -> None:
        """``widths`` gives the original size of each dimension of the input."""
        super().__init__()
        self.dim = None if dim is None else list(dim)
        self.keepdim, self.widths = keepdim, list(widths)

    def dims(self, x: torch.Tensor) -> list[int]:
        """Return the dimensions that the statistic runs over."""
        return list(range(x.dim())) if self.dim is None else [d % x.dim() for d in self.dim]

    def extra_repr(self) -> str:
        """Return the options."""
        return f"dim={self.dim}, keepdim={self.keepdim}, widths={self.widths}"


class Mean(Statistic):
    """The mean over all original elements."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean."""
        dims = self.dims(x)
        return x.mean(dims, self.keepdim) * share_left(x, dims, self.widths)


class Variance(Statistic):
    """The variance over all original elements, or its root; ``correction`` is subtracted from the divisor."""

    def __init__(
        self, dim: Sequence[int] | None, keepdim: bool, widths: Widths, correction: float = 1.0, root: bool = False
    ) -> None:
        super().__init__(dim, keepdim, widths)
        self.correction, self.root = correction, root

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return variance or standard deviation, and mean."""
        dims = self.dims(x)
        share = share_left(x, dims, self.widths)
        mean, variance = moments(_wide(x), dims, share)
        count = prod(x.shape[d] for d in dims) / share
        if self.correction:
            variance = torch.div(variance * count, torch.sym_max(count - self.correction, 0))  # type: ignore[arg-type]
        spread, mean = (variance.sqrt() if self.root else variance).to(x.dtype), mean.to(x.dtype)
        return (spread, mean) if self.keepdim else (spread.squeeze(dims), mean.squeeze(dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return variance or standard deviation."""
        return self.both(x)[0]

    def extra_repr(self) -> str:
        """Return the options."""
        return f"{super().extra_repr()}, correction={self.correction}, root={self.root}"


class VarianceAndMean(Variance):
    """Variance or its root, and mean, over all original elements."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Return variance or standard deviation, and mean."""
        return self.both(x)


class Extremum(Statistic):
    """The largest or smallest of all original elements; the removed ones count as zeros."""

    def __init__(self, dim: Sequence[int] | None, keepdim: bool, widths: Widths, largest: bool = True) -> None:
        super().__init__(dim, keepdim, widths)
        self.largest = largest

    def with_zero(self, found: torch.Tensor) -> torch.Tensor:
        """Return the extremum of ``found`` and zero."""
        return found.clamp(min=0) if self.largest else found.clamp(max=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the extremum. In training its gradient is shared between all equal to it, removed ones among them."""
        dims = self.dims(x)
        found = (x.amax if self.largest else x.amin)(dims, self.keepdim)
        if not (self.training and found.requires_grad):
            return self.with_zero(found)
        left = (x == 0).sum(dims, self.keepdim)
        removed = prod(self.widths[d] or x.shape[d] for d in dims) - prod(x.shape[d] for d in dims)
        # where the extremum is zero, the factor changes its gradient only
        shared = found * torch.where(found == 0, left / (left + removed), 1).to(x.dtype)
        return torch.where(found < 0 if self.largest else found > 0, 0, shared)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"{super().extra_repr()}, largest={self.largest}"


class ExtremumAndPlace(Extremum):
    """The largest or smallest of all original elements along one dimension, and its place among those left."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Return the extremum and its place."""
        (dim,) = self.dims(x)
        found, place = (x.max if self.largest else x.min)(dim, self.keepdim)
        return self.with_zero(found), place


class Norm(nn.Module):
    """Base of the norms. Gain and shift are parameters of the module, or are given in a call."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, eps: float | None) -> None:
        super().__init__()
        self.eps = eps
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input without gain and shift."""
        raise TypeError(f"{type(self).__name__} has to say how it normalises")

    def along(self, x: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
        """Return a gain or a shift in a shape that broadcasts against the input."""
        return affine

    def forward(
        self, x: torch.Tensor, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the normalised input, in the input's type."""
        weight, bias = self.weight if weight is None else weight, self.bias if bias is None else bias
        result = self.normalised(_wide(x))
        result = result if weight is None else result * self.along(x, weight)
        return (result if bias is None else result + self.along(x, bias)).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the options, and which of gain and shift are parameters of the module."""
        own = [name for name, tensor in self._parameters.items() if tensor is not None]
        options = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value}" for name, value in {**options, "own": own}.items())


class LayerNorm(Norm):
    """Layer norm over the trailing dimensions, whose original sizes are ``normalized_shape``."""

    eps: float

    def __init__(self, normalized_shape: Sequence[int], eps: float = 1e-5) -> None:
        super().__init__(eps)
        self.normalized_shape = list(normalized_shape)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with mean 0 and variance 1."""
        dims = list(range(-len(self.normalized_shape), 0))
        mean, variance = moments(x, dims, share_left(x, dims, self.normalized_shape))
        return (x - mean) * (variance + self.eps).rsqrt()


class BatchNorm(Norm):
    """Batch norm along dimension 1 with the statistics of the input itself, whose original sizes are ``widths``."""

    eps: float

    def __init__(self, widths: Widths, eps: float = 1e-5) -> None:
        super().__init__(eps)
        self.widths = list(widths)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with mean 0 and variance 1 in each channel."""
        dims = [d for d in range(x.dim()) if d != 1]
        mean, variance = moments(x, dims, share_left(x, dims, self.widths))
        return (x - mean) * (variance + self.eps).rsqrt()

    def along(self, x: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
        """Return a gain or a shift along dimension 1."""
        return affine.reshape(-1, *[1] * (x.dim() - 2))


class RMSNorm(Norm):
    """RMS norm over the trailing dimensions, whose original sizes are ``normalized_shape``.

    If ``eps`` is ``None``, the machine precision of the input is added, as in ``torch.nn.RMSNorm``.
    """

    def __init__(self, normalized_shape: Sequence[int], eps: float | None = None) -> None:
        super().__init__(eps)
        self.normalized_shape = list(normalized_shape)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with a mean square of 1."""
        dims = list(range(-len(self.normalized_shape), 0))
        square = x.square().mean(dims, keepdim=True) * share_left(x, dims, self.normalized_shape)
        return x * (square + (torch.finfo(x.dtype).eps if self.eps is None else self.eps)).rsqrt()


class GroupNorm(Norm):
    """Group norm along dimension 1, for ``num_groups`` groups of ``group_width`` original channels each."""

    eps: float

    def __init__(self, num_groups: int, group_width: int, eps: float = 1e-5) -> None:
        super().__init__(eps)
        self.num_groups, self.group_width = num_groups, group_width

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with mean 0 and variance 1 in each group of each sample."""
        grouped = x.reshape(x.shape[0], self.num_groups, -1, *x.shape[2:])
        mean, variance = moments(grouped, list(range(2, grouped.dim())), grouped.shape[2] / self.group_width)
        return ((grouped - mean) * (variance + self.eps).rsqrt()).reshape(x.shape)

    def along(self, x: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
        """Return a gain or a shift along dimension 1."""
        return affine.reshape(-1, *[1] * (x.dim() - 2))
