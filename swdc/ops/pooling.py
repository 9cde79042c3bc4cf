"""Pooling over positions: every channel passes on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.affine_rows import each
from swdc.ops.base import Operator, register
from swdc.ops.call_cost import Quotient, ShapeOf, Use
from swdc.ops.convolution import is_padded, spatial_rank, windows
from swdc.ops.elementwise import couple_broadcast
from swdc.ops.identity import Evaluation, Identity, copy_of
from swdc.ops.special_activations import zero_only
from swdc.ops.window_sizes import windows_along


class OverPositions(Operator):
    """Averages and maxima over the trailing dimensions: a constant feature map stays the same."""

    any_order = True

    def spatial(self, call: Call) -> int:
        """Return the number of trailing dimensions that a call works over."""
        return spatial_rank(call)

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass; positions hold none."""
        x = call.tensors()[0]
        spatial, labels = self.spatial(call), channels.labels(x)
        channels.hold(x, range(len(labels) - spatial, len(labels)), call)
        channels.set(call, [*labels[:-spatial], *[None] * spatial])

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant stays the same."""
        channels.set_dead(call, channels.dead(call.tensors()[0]))


@register
class AdaptiveAverage(OverPositions):
    """Averages to a given size."""

    names = tuple(f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3))

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The given sizes in place of the trailing ones."""
        sizes, wanted = list(arguments["self"].shape), list(arguments["output_size"])
        return [[*sizes[: -len(wanted)], *wanted]]

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """If the size does not change, each average is over a single element."""
        return copy_of(call["self"])

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """The mean of a whole image, or averages of windows that lie side by side."""
        if spatial_rank(call) != 2:
            return super().lower(call, shape_of)
        shape, made = shape_of(call["self"]), shape_of(call.node)
        steps = tuple(max(1, size // out) for size, out in zip(shape[-2:], made[-2:], strict=True))
        if steps == shape[-2:]:
            options = ("batch", prod(shape[:-3])), ("size", shape[-2:])
            return (Use("GlobalAveragePool", options, (Quotient(((call["self"], len(shape) - 3),)),)),)
        return (_pool("AveragePool", call, shape_of, steps, steps, (0, 0)),)


class _Windows(OverPositions):
    """Averages or maxima over windows of a given size."""

    results: ClassVar[int] = 1
    pool: ClassVar[str] = "MaxPool"
    """The operator of ONNX that computes it."""

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The number of windows. If it is rounded up, the last one begins within the input or the padding before it."""
        rank = int(target._schema.name[target._schema.name.index("pool") + 4])
        names = ("kernel_size", "stride", "padding", "dilation")
        kernel, stride, padding, dilation = (each(arguments.get(name) or (name == "dilation"), rank) for name in names)
        sizes, stride = list(arguments["self"].shape), stride if arguments.get("stride") else kernel
        many = windows_along(sizes[-rank:], kernel, stride, padding, dilation, bool(arguments.get("ceil_mode")))
        return [[*sizes[:-rank], *many]] * self.results

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """A pool over two dimensions; in other cases the default of ``Work``."""
        if spatial_rank(call) != 2:
            return super().lower(call, shape_of)
        kernel, padding = each(call["kernel_size"], 2), each(call["padding"], 2)
        return (_pool(self.pool, call, shape_of, kernel, each(call["stride"] or kernel, 2), padding),)


def _pool(
    operator: str, call: Call, shape_of: ShapeOf, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> Use:
    shape = shape_of(call["self"])
    options = windows(shape, kernel, strides, (*padding, *padding))
    return Use(operator, options, (Quotient(((call["self"], len(shape) - 3),)),))


def _misses_input(call: Call) -> bool:
    """Whether a window of maxima may lie beside the input, where the maximum is minus infinity."""
    return is_padded(call) and any(step != 1 for step in each(call["dilation"], 1))


@register
class Pooling(_Windows):
    """Maxima of windows."""

    names: ClassVar[tuple[str, ...]] = tuple(f"aten.max_pool{n}d.default" for n in (1, 2, 3))

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant stays the same, unless windows may lie beside the input."""
        if not _misses_input(call):
            super().fold(call, channels)

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if each window is a single element."""
        sizes = [call["kernel_size"], call["padding"]]
        kernel, padding = ({size} if isinstance(size, int) else set(size) for size in sizes)
        single = kernel == {1} and padding <= {0} and call.arguments.get("divisor_override") in (None, 1)
        return copy_of(call["self"]) if single else None


@register
class AveragePooling(Pooling):
    """Averages that may count the zeros of the padding, or may have a divisor of their own."""

    names = ("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
    pool = "AveragePool"

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero; other constants stay the same if no zeros are counted and the divisor is the usual one."""
        dead = channels.dead(call["self"])
        counts = is_padded(call) and call["count_include_pad"]
        plain = not counts and call.arguments.get("divisor_override") is None
        channels.set_dead(call, dead if plain else [zero_only(d) for d in dead])


class _Indexed(OverPositions):
    """Maxima and their positions."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass, in both results."""
        super().couple(call, channels)
        labels = channels.labels(call.node)
        channels.set(call, [labels, list(labels)])

    def fold(self, call: Call, channels: Channels) -> None:
        """The maximum of a constant is that constant; its position is unknown."""
        dead = channels.dead(call["self"])
        channels.set_dead(call, [dead, [UNKNOWN] * len(dead)])


@register
class IndexedPooling(_Indexed, _Windows):
    """Maxima of windows, and their positions."""

    names = tuple(f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3))

    results = 2

    def fold(self, call: Call, channels: Channels) -> None:
        """The maximum of a constant is that constant, unless windows may lie beside the input."""
        if not _misses_input(call):
            super().fold(call, channels)


@register
class AdaptiveMaximum(_Indexed):
    """Maxima to a given size, and their positions."""

    names = tuple(f"aten.adaptive_max_pool{n}d.default" for n in (1, 2, 3))

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The given sizes in place of the trailing ones, in both results."""
        sizes, wanted = list(arguments["self"].shape), list(arguments["output_size"])
        return [[*sizes[: -len(wanted)], *wanted]] * 2

    def item_identity(self, call: Call, index: int) -> Identity | None:
        """If the size does not change, each maximum is over a single element."""
        return copy_of(call["self"]) if index == 0 else None


@register
class Unpooling(Operator):
    """Maxima put back at their positions, among zeros."""

    names = ("aten.max_unpool2d.default", "aten.max_unpool3d.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the values with their positions."""
        x, spatial = call["self"], spatial_rank(call)
        labels = couple_broadcast(call, channels, [x, call["indices"]])
        channels.hold(x, range(len(labels) - spatial, len(labels)), call)
        channels.set(call, [*labels[:-spatial], *[None] * spatial])

    def fold(self, call: Call, channels: Channels) -> None:
        """Only zero stays constant, because the values around it are zeros."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call["self"])])
