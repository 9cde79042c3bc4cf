"""Norms and statistics that keep the divisor of the channels they were trained with.

Removed channels are zeros, and zeros count. With k of n elements left, K of them, and s = k / n,

    mean(x) = s mean_K(x) = m        var(x) = s mean_K((x - m)^2) + (1 - s) m^2        mean(x^2) = s mean_K(x^2)

so that what is computed over the elements that are left is the statistic over all of them. The variance is a sum of
squares, never a difference of two. All modules are made of plain tensor operators; they give the same in training as
in evaluation, and are computed in float32 at least where they normalise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

Widths = Sequence[int | None]
"""The original size of each dimension of a value; ``None`` where it is what it is."""


def share_left(x: torch.Tensor, dims: Sequence[int], widths: Widths) -> float:
    """Return how many of the original elements along ``dims`` are left, as a share of them."""
    share = 1.0
    for dim in dims:
        width = widths[dim]
        if width is not None:
            share *= x.shape[dim] / width
    return share


def moments(x: torch.Tensor, dims: list[int], share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance along ``dims``, which stay with size one."""
    mean = x.mean(dims, keepdim=True) * share
    variance = (x - mean).square().mean(dims, keepdim=True) * share
    return mean, variance + mean.square() * (1 - share)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Statistic(nn.Module):
    """Base of the statistics along some dimensions, all where ``dim`` is ``None``."""

    def __init__(self, dim: Sequence[int] | None, keepdim: bool, widths: Widths) -> None:
        """``widths`` gives the original size of each dimension of the input."""
        super().__init__()
        self.dim = None if dim is None else list(dim)
        self.keepdim, self.widths = keepdim, list(widths)

    def dims(self, x: torch.Tensor) -> list[int]:
        """Return the dimensions that it runs over."""
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


class LayerNorm(nn.Module):
    """Layer norm over the trailing dimensions, whose original sizes are ``normalized_shape``.

    A gain and a shift of its own are set as parameters; others can be given in a call.
    """

    weight: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, normalized_shape: Sequence[int], eps: float = 1e-5) -> None:
        super().__init__()
        self.normalized_shape, self.eps = list(normalized_shape), eps
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(
        self, x: torch.Tensor, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the normalised input, of the type of the input."""
        weight, bias = self.weight if weight is None else weight, self.bias if bias is None else bias
        wide = _wide(x)
        dims = list(range(-len(self.normalized_shape), 0))
        mean, variance = moments(wide, dims, share_left(x, dims, self.normalized_shape))
        result = (wide - mean) * (variance + self.eps).rsqrt()
        result = result if weight is None else result * weight
        return (result if bias is None else result + bias).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the options, and which of gain and shift are its own."""
        own = ", ".join(name for name, tensor in self._parameters.items() if tensor is not None)
        return f"{self.normalized_shape}, eps={self.eps}, own=[{own}]"
