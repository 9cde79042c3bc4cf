"""Criteria that score channels by what they do on data: they read the statistics of ``swdc.calibrate``.

Each divides the scores of a group by their mean, as ``l2`` does, so that groups can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from swdc.ir.groups import ChannelGroup
from swdc.ir.program import Program
from swdc.ir.weight_sources import Values
from swdc.sparsity.calibration.statistics import Calibration, Floats, Observed

Scores = list[Floats | None]
Weights = Mapping[str, torch.Tensor]


def activation(
    program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None, *, statistics: Calibration
) -> Scores:
    """Root mean square of a channel in all that layers read of it, divided by the mean over the group."""
    scores: Scores = []
    for group in groups:
        once = {(each.value, each.dim): (each, where) for each, where in statistics.places(program, group.name)}
        squares = [each.mean_squares[where].mean(1) for each, where in once.values()]
        scores.append(_comparable(np.sqrt(np.mean(squares, axis=0))) if squares else None)
    return scores


def wanda(
    program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None, *, statistics: Calibration
) -> Scores:
    """Sum of |w| times the norm of its input over all weights that read a channel (Sun et al. 2023), by group mean.

    The norm is the root mean square over all samples and positions of the data. A group that no layer reads has no
    scores.
    """
    read = Values(program, weights)
    scores: Scores = []
    for group in groups:
        members = {(m.tensor, m.dim): m.indices for m in group.members}
        total, found = np.zeros(group.width), False
        for each, where in statistics.places(program, group.name):
            indices = members.get((_first_name(program, each.weight), each.weight_dim))
            if each.value == each.node or indices is None:
                continue
            norms = np.sqrt(each.mean_squares[where])
            if norms.shape != indices.shape:  # a grouped convolution reads several channels with one column
                norms = np.sqrt(each.mean_squares[where].mean(1, keepdims=True))
            total += (_column_sums(read, each)[indices] * norms).sum(1)
            found = True
        scores.append(_comparable(total) if found else None)
    return scores


def taylor(
    program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None, *, statistics: Calibration
) -> Scores:
    """Mean over samples of |sum of gradient x activation| (Molchanov et al. 2017), divided by the mean over the group.

    The sum runs over all positions and all layers that read the channel: to first order it is by how much the loss
    changes without the channel.
    """
    statistics.need_gradients("taylor")
    return [_of(statistics.signed.get(group.name, (None, None))[0]) for group in groups]


def fisher(
    program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None, *, statistics: Calibration
) -> Scores:
    """Half the mean over samples of (sum of gradient x activation) squared (Theis et al. 2018), by group mean."""
    statistics.need_gradients("fisher")
    squares = [statistics.signed.get(group.name, (None, None))[1] for group in groups]
    return [None if each is None else _comparable(each / 2) for each in squares]


def taylor_weight(
    program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None, *, statistics: Calibration
) -> Scores:
    """Sum of |g w| over all weights that write or read a channel, mean over batches, divided by the mean of the group.

    The importance of single weights is that of Molchanov et al. 2019.
    """
    statistics.need_gradients("taylor_weight")
    return [_of(statistics.weighted.get(group.name)) for group in groups]


DATA_CRITERIA = {
    "activation": activation, "wanda": wanda, "taylor": taylor, "taylor_weight": taylor_weight, "fisher": fisher,
}  # fmt: skip


def _of(found: Floats | None) -> Floats | None:
    return None if found is None else _comparable(found)


def _comparable(scores: npt.NDArray[np.float64]) -> Floats:
    """Divide scores by their mean; scores that are all zero stay so."""
    comparable: Floats = scores / max(scores.mean(), np.finfo(np.float64).tiny)
    return comparable


def _column_sums(read: Values, each: Observed) -> Floats:
    """Return the sum of |w| for each index of the dimension of a weight that reads, added up part by part."""
    dim, first = each.weight_dim, 0
    sums = np.zeros(read.shape(each.weight)[dim])
    for part in read.parts(each.weight):
        others = [other for other in range(part.dim()) if other != dim]
        there = slice(first, first + len(part)) if dim == 0 else slice(None)
        sums[there] += (part.abs().double().sum(others) if others else part.abs().double()).cpu().numpy()
        first += len(part)
    return sums


def _first_name(program: Program, name: str) -> str:
    """Return the first name of a tensor, under which groups hold it."""
    tensors = program.tensors
    return next(first for first, tensor in tensors.items() if tensor is tensors[name])
