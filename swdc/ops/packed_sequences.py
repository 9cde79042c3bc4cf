"""Packing padded sequences into their steps, and back."""

from __future__ import annotations

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, register
from swdc.ops.special_activations import zero_only

_LENGTHS = "says how long the sequences are"


@register
class Pack(Operator):
    """(batch, steps, ...) or (steps, batch, ...) -> (steps of all sequences, ...), and the sequences at each step."""

    names = ("aten._pack_padded_sequence.default",)
    measured = 1  # the steps of the longest sequence, which torch's own code pads to

    def couple(self, call: Call, channels: Channels) -> None:
        """Batch and steps become one dimension without channels; the others pass."""
        channels.freeze_value(call["lengths"], call.reason(_LENGTHS))
        channels.hold(call["input"], (0, 1), call)
        channels.set(call, [[None, *channels.labels(call["input"])[2:]], [None]])

    def fold(self, call: Call, channels: Channels) -> None:
        """Every step is one of the input's."""
        channels.set_dead(call, [[UNKNOWN, *channels.dead(call["input"])[2:]], [UNKNOWN]])


@register
class Unpack(Operator):
    """(steps of all sequences, ...) -> (batch, steps, ...) or (steps, batch, ...), and the lengths."""

    names = ("aten._pad_packed_sequence.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """All but the first dimension pass."""
        channels.freeze_value(call["batch_sizes"], call.reason(_LENGTHS))
        channels.hold(call["data"], (0,), call)
        channels.set(call, [[None, None, *channels.labels(call["data"])[1:]], [None]])

    def fold(self, call: Call, channels: Channels) -> None:
        """Zeros stay zeros if zeros are padded."""
        dead = channels.dead(call["data"])[1:]
        kept = [zero_only(value) if call["padding_value"] == 0 else UNKNOWN for value in dead]
        channels.set_dead(call, [[UNKNOWN, UNKNOWN, *kept], [UNKNOWN]])
