"""Sums, including residual sums whose operands keep channels of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.channels.routing import Routed
from swdc.ir.call import Call
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Ids
from swdc.ops.arithmetic import Addition
from swdc.ops.base import register
from swdc.ops.elementwise import couple_broadcast

CHANNELS = 1
"""The dimension of a feature map that holds its channels."""


@register
class TensorAddition(Addition):
    """A sum of two tensors; under the policy ``free`` a shortcut is not joined if a batch norm decides over the sum."""

    adds = True
    names = ("aten.add.Tensor",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the operands' channels, except those of free operands, whose dead channels must add nothing."""
        free = channels.free(call)
        if not free:
            super().couple(call, channels)
            return
        own = couple_broadcast(call, channels, [o for o in call.tensors() if o not in free])
        labels = couple_broadcast(call, channels, call.tensors(), skip=CHANNELS)
        size = channels.sizes(call.node)[CHANNELS]
        labels[CHANNELS] = own[CHANNELS] if own else channels.fresh(size)
        channels.set(call, labels)
        for operand in free:
            channels.absorb(call, channels.labels(operand)[CHANNELS], channels.dead(operand)[CHANNELS], folds=False)

    def fold(self, call: Call, channels: Channels) -> None:
        """With a free operand, the dead values of the sum's channels are unknown."""
        super().fold(call, channels)
        if channels.free(call):
            dead = channels.dead(call.node)
            channels.set_dead(call, [UNKNOWN if d == CHANNELS else value for d, value in enumerate(dead)])

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Route the channels of an operand to those of the sum, if they differ.

        An operand of which nothing is left vanishes, unless the other has a factor.
        """
        changes = {name: _routed(call, call[name], kept) for name in ("self", "other")}
        routed = {name: way for name, way in changes.items() if way is not None}
        empty = [name for name, way in routed.items() if way.is_empty]
        if not empty:
            return routed
        left = "self" if "other" in empty else "other"
        if left == "other" and call.arguments.get("alpha", 1) != 1:
            return routed
        return {"forward": routed.get(left, call[left])}


def _routed(call: Call, operand: Any, kept: Kept) -> Routed | None:
    """Return how an operand gets the channels of the sum; ``None`` if it has them already."""
    if not isinstance(operand, fx.Node) or not CHANNELS < len(call.shape) == len(operand.meta[SHAPE]):
        return None
    if operand.meta[SHAPE][CHANNELS] != call.shape[CHANNELS]:  # it is broadcast
        return None
    wanted, given = (_kept(value, call, kept) for value in (call.node, operand))
    if wanted is None or given is None or np.array_equal(wanted, given):
        return None
    place = {int(channel): index for index, channel in enumerate(given)}
    return Routed(operand, CHANNELS, len(given), tuple(place.get(int(channel), -1) for channel in wanted))


def _kept(value: fx.Node, call: Call, kept: Kept) -> Ids | None:
    """Return the kept channels of a value, all of them if none can go; ``None`` if their number varies."""
    indices, width = kept.indices(value, CHANNELS), call.shape[CHANNELS]
    return np.arange(width) if indices is None and isinstance(width, int) else indices
