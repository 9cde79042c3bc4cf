"""Windows that are unfolded into channels or positions, and folded back by summation."""

from __future__ import annotations

from math import prod
from typing import Any

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, register
from swdc.ops.block_labels import merged, merged_dead, spread, spread_dead
from swdc.ops.special_activations import zero_only


@register
class Unfold(Operator):
    """Image to columns: the k x k positions of a window become a block of channels for each channel."""

    names = ("aten.im2col.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Repeat the label of each channel."""
        x = call["self"]
        labels: list[Any] = channels.labels(x)
        channels.hold(x, (len(labels) - 2, len(labels) - 1), call)
        channels.set(call, [*labels[:-3], spread(labels[-3], prod(call["kernel_size"])), None])

    def fold(self, call: Call, channels: Channels) -> None:
        """With padding, only zero stays constant."""
        *rest, block = channels.dead(call["self"])[:-2]
        dead = [*rest, spread_dead(block, prod(call["kernel_size"]))]
        channels.set_dead(call, [*(map(zero_only, dead) if any(call["padding"]) else dead), UNKNOWN])


@register
class Fold(Operator):
    """Columns to image: a sum over overlapping windows; the channels of a block are coupled."""

    names = ("aten.col2im.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the channels of each block."""
        x = call["self"]
        labels: list[Any] = channels.labels(x)
        channels.hold(x, [len(labels) - 1], call)
        channels.set(call, [*labels[:-2], merged(call, channels, labels[-2], prod(call["kernel_size"])), None, None])

    def fold(self, call: Call, channels: Channels) -> None:
        """Zeros add up to zero."""
        *rest, block = channels.dead(call["self"])[:-1]
        dead = [*rest, merged_dead(block, prod(call["kernel_size"]))]
        channels.set_dead(call, [*map(zero_only, dead), UNKNOWN, UNKNOWN])


@register
class Windows(Operator):
    """Sliding windows along one dimension, laid out along a new last one."""

    names = ("aten.unfold.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels along the other dimensions pass."""
        x = call["self"]
        labels: list[Any] = channels.labels(x)
        dim = call["dimension"] % len(labels)
        channels.hold(x, [dim], call)
        labels[dim] = None
        channels.set(call, [*labels, None])

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant is the same in every window."""
        channels.set_dead(call, [*channels.dead(call["self"]), UNKNOWN])
