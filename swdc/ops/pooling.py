"""Pooling over positions: every channel passes on its own."""

from __future__ import annotations

from swdc.call import Call
from swdc.channels import Channels
from swdc.ops.activation import zero_only
from swdc.ops.base import Operator, register


def _spatial(call: Call) -> int:
    """Return over how many trailing dimensions an operator such as ``aten.max_pool2d.default`` works."""
    return int(next(c for c in call.operator.split(".")[1] if c.isdigit()))


@register
class Pooling(Operator):
    """Averages and maxima over the trailing dimensions: a constant feature map stays what it is."""

    names = (
        *(f"aten.max_pool{n}d.default" for n in (1, 2, 3)),
        *(f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)),
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass; positions hold none."""
        x = call.tensors()[0]
        spatial, labels = _spatial(call), channels.labels(x)
        channels.hold(x, range(len(labels) - spatial, len(labels)), call)
        channels.set(call, [*labels[:-spatial], *[None] * spatial])

    def fold(self, call: Call, channels: Channels) -> None:
        """What is the same everywhere stays so."""
        channels.set_dead(call, channels.dead(call.tensors()[0]))


@register
class PaddedPooling(Pooling):
    """Averages that may count the zeros of the padding: only zero stays zero for certain."""

    names = ("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero; other constants change at the border."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call.tensors()[0])])
