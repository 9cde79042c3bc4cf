"""Running sums, products and extrema along one dimension."""

from __future__ import annotations

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, register
from swdc.ops.freezing import freeze_result
from swdc.ops.reduction import has_several, needs_zero
from swdc.ops.special_activations import zero_only


@register
class Cumulative(Operator):
    """Running products and extrema along one dimension, which keeps its channels; the others pass."""

    names = tuple(f"aten.{name}.default" for name in "cummax cummin cumprod logcumsumexp".split())

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the dimension."""
        labels, reason = channels.labels(call["self"]), call.reason("depends on the order of the channels")
        dim = call["dim"]
        if labels and labels[dim] is not None:
            channels.freeze(labels[dim], reason)
            labels[dim] = freeze_result(call, channels, reason)[0][dim] if has_several(call) else labels[dim]
        channels.set(call, [labels] * len(call.shape) if has_several(call) else labels)


@register
class CumulativeSum(Operator):
    """Running sums: a zero adds nothing, but the running sum at its place is not zero."""

    names = ("aten.cumsum.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels along the dimension that are not zero when dead."""
        labels, dead = channels.labels(call["self"]), channels.dead(call["self"])
        if labels:
            needs_zero(call, channels, labels[call["dim"]], dead[call["dim"]])
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Along the dimension, dead values become sums of those before them; along the others, zero stays zero."""
        dead = [zero_only(d) for d in channels.dead(call["self"])]
        if dead:
            dead[call["dim"]] = UNKNOWN
        channels.set_dead(call, dead)
