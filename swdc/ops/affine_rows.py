"""Calls that multiply rows of their input with a matrix, so that least squares can solve for the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from swdc.ir.call import Call, Ref

_ROWS = 1 << 14
"""Rows of a dense layer that are yielded at a time."""


@dataclass(frozen=True)
class AffineRows:
    """A call that computes ``matrix @ row + bias`` for each row that it takes from its input, and nothing else.

    The matrix has shape ``(outputs, columns)``; each channel that is read has ``columns / channels`` columns, one after
    the other. ``rows`` yields the rows of an input in parts, each of shape ``(rows, columns)``, given the shape of the
    weight. ``inputs_first`` says that the weight is stored as ``(inputs, outputs)``.
    """

    value: fx.Node
    weight: Ref
    bias: Ref | None
    rows: Callable[[torch.Tensor, torch.Size], Iterator[torch.Tensor]]
    inputs_first: bool = False

    @property
    def input_dim(self) -> int:
        """The dimension of the weight that holds the channels that are read."""
        return 0 if self.inputs_first else 1

    def has_matrix(self, weight: torch.Tensor) -> bool:
        """Whether the weight is a single matrix, not one for each index of further dimensions."""
        return weight.dim() == 2 if self.inputs_first else weight.dim() >= 2

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the matrix of a weight."""
        return weight.T if self.inputs_first else weight.reshape(len(weight), -1)

    def stored(self, matrix: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the weight of a matrix, in the shape of the weight."""
        return matrix.T if self.inputs_first else matrix.reshape(shape)


def last_dimension(value: torch.Tensor, weight: torch.Size) -> Iterator[torch.Tensor]:
    """Yield the rows of a dense layer: the input along its last dimension."""
    yield from torch.split(value.reshape(-1, value.shape[-1]), _ROWS)


def patches(call: Call, value: torch.Tensor, weight: torch.Size) -> Iterator[torch.Tensor]:
    """Yield the patches that a convolution reads, sample by sample: a row for each position, channel after channel."""
    rank, kernel = len(weight) - 2, tuple(weight[2:])
    strides, dilations = each(call["stride"], rank), each(call["dilation"], rank)
    around = around_of(each(call["padding"], rank), kernel, dilations)
    before_and_after = [size for dim in reversed(range(rank)) for size in (around[dim], around[rank + dim])]
    samples = value if value.dim() == rank + 2 else value.unsqueeze(0)
    for sample in torch.split(samples, 1):
        padded = F.pad(sample, before_and_after)
        if rank == 1:  # torch unfolds images only
            padded = padded.unsqueeze(2)
        yield F.unfold(padded, _of_images(kernel), _of_images(dilations), 0, _of_images(strides))[0].T


def _of_images(sizes: Sequence[int]) -> tuple[int, ...]:
    return (1, *sizes) if len(sizes) == 1 else tuple(sizes)


def each(option: Any, rank: int) -> Any:
    """Return an option for each dimension: ``[1]`` stands for all."""
    if isinstance(option, str):
        return option
    values = tuple(option) if isinstance(option, list | tuple) else (option,)
    return values * rank if len(values) == 1 else values


def around_of(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Return the padding before every dimension, then after every dimension, in the form of ONNX."""
    if padding == "same":
        sums = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return (*(total // 2 for total in sums), *(total - total // 2 for total in sums))
    return (0,) * (2 * len(kernel)) if padding == "valid" else (*padding, *padding)
