"""Distances and similarities of vectors, summed over their channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from swdc.channels.dead_values import UNKNOWN, Dead, plain
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, register
from swdc.ops.elementwise import couple_broadcast, equal
from swdc.ops.label_joining import couple_pair


def difference(one: Dead, other: Dead) -> Dead:
    """Return what a dead channel adds to a distance: nothing if both vectors have the same value there."""
    return plain(np.where(equal(one, other), 0.0, np.nan))


@register
class PairwiseDistances(Operator):
    """The distance of every row of one matrix to every row of another."""

    names = ("aten.cdist.default", "aten._cdist_forward.default", "aten._euclidean_dist.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the dimensions that are summed over; rows of both pass, and batches are frozen."""
        one, other = call["x1"], call["x2"]
        labels, others = channels.labels(one), channels.labels(other)
        dead = difference(channels.dead(one)[-1], channels.dead(other)[-1])
        channels.absorb(call, couple_pair(call, channels, labels[-1], others[-1]), dead, folds=False)
        batch: list[Any] = [None] * (len(call.shape) - 2)
        for values in (labels[:-2], others[:-2]):
            for ids in values:
                channels.freeze(ids, call.reason("is a batch dimension of matrices"))
        channels.set(call, [*batch, labels[-2], others[-2]])

    def fold(self, call: Call, channels: Channels) -> None:
        """The distance to a dead row is not constant."""
        channels.set_dead(call, [UNKNOWN] * len(call.shape))


@register
class Similarity(Operator):
    """The cosine of the angle between vectors: a product and two norms, to which zeros add nothing."""

    names = ("aten.cosine_similarity.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the vectors; the labels that are summed over end here."""
        operands = [call["x1"], call["x2"]]
        labels = couple_broadcast(call, channels, operands)
        dim = call["dim"] % len(labels) - len(labels)
        sizes = [channels.sizes(v)[dim:][:1] for v in operands]
        dead = [channels.dead(v)[dim] for v in operands] if sizes[0] == sizes[1] else [UNKNOWN, UNKNOWN]
        zero = plain(np.where(equal(dead[0], 0.0) & equal(dead[1], 0.0), 0.0, np.nan))
        channels.absorb(call, labels.pop(dim), zero, folds=False)
        channels.set(call, labels)
