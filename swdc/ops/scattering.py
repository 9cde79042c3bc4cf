"""Writing and adding by index, as graph networks sum the messages to a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swdc.channels.dead_values import UNKNOWN, Dead, in_type, number
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Value, values_in
from swdc.ir.groups import Ids
from swdc.ops.along_positions import AlongPositions
from swdc.ops.base import Operator, register
from swdc.ops.indexing import freeze_indexed, freeze_indices, layout
from swdc.ops.label_joining import agreeing, couple_pair

_KEEPS_CONSTANTS = {None, "mean", "amax", "amin"}


def _both_zero(one: Dead, other: Dead) -> Dead:
    return 0.0 if isinstance(one, float) and isinstance(other, float) and one == other == 0.0 else UNKNOWN


def _literal(call: Call, channels: Channels) -> Dead:
    """Return the literal value that a call writes, in the type of the result."""
    return in_type(number(call.arguments.get("value")), channels.dtype(call.node))


def combined(reduction: str | None, own: Sequence[Dead], added: Sequence[Dead]) -> list[Dead]:
    """Return the dead values of places that are overwritten by, or reduced with, other values.

    A zero stays zero under every reduction; other constants stay under overwriting, means and extrema.
    """
    if reduction in _KEEPS_CONSTANTS:
        return agreeing([own, added])
    return [_both_zero(a, b) for a, b in zip(own, added, strict=True)]


def couple_along(call: Call, channels: Channels, values: list[Value], over: set[int]) -> list[Ids | None]:
    """Join several values of one rank along every dimension but those in ``over``, which are frozen."""
    sizes = [channels.sizes(v) for v in values]
    result: list[Ids | None] = []
    for d, (first, *others) in enumerate(zip(*map(channels.labels, values), strict=True)):
        if d in over or len({size[d] for size in sizes}) > 1:
            for ids in (first, *others):
                channels.freeze(ids, call.reason("indexed by the data"))
            first, others = None if d in over else first, []
        for other in others:
            first = couple_pair(call, channels, first, other)
        result.append(first)
    return result


@register
class Scatter(Operator):
    """Values written to, or reduced with, the places that an index tensor of the same rank names along a dimension."""

    names = (
        "aten.scatter.src", "aten.scatter.value", "aten.scatter.reduce", "aten.scatter.value_reduce",
        "aten.scatter_add.default", "aten.scatter_reduce.two",
    )  # fmt: skip

    def couple(self, call: Call, channels: Channels) -> None:
        """Join along every dimension but the one that is indexed."""
        values = values_in([call["self"], call["index"], call.arguments.get("src")])
        rank = len(channels.sizes(values[0]))
        channels.set(call, couple_along(call, channels, values, {call["dim"] % rank} if rank else set()))

    def fold(self, call: Call, channels: Channels) -> None:
        """Combine the dead values of ``self`` with those that are written."""
        own = channels.dead(call["self"])
        added = channels.dead(call["src"]) if "src" in call.arguments else [_literal(call, channels)] * len(own)
        summed = "sum" if call.operator == "aten.scatter_add.default" else None
        channels.set_dead(call, combined(call.arguments.get("reduce", summed), own, added))


@register
class IndexWrite(Operator):
    """Whole rows written to, or reduced with, the places that an index vector names."""

    names = (
        "aten.index_add.default", "aten.index_copy.default", "aten.index_reduce.default", "aten.index_fill.int_Scalar",
        "aten.index_fill.int_Tensor",
    )  # fmt: skip

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the rows of both tensors along the dimensions that are not indexed."""
        x, rows = call["self"], call.arguments.get("source")
        rank = len(channels.sizes(x))
        over = {call["dim"] % rank} if rank else set()
        freeze_indices(call, channels, [call["index"]])
        if rows is not None and len(channels.sizes(rows)) != rank:
            super().couple(call, channels)
            return
        channels.set(call, couple_along(call, channels, values_in([x, rows]), over))

    def fold(self, call: Call, channels: Channels) -> None:
        """Zeros stay zeros; under a copy, other constants may stay as well."""
        own, rows = channels.dead(call["self"]), call.arguments.get("source")
        added = [_literal(call, channels)] * len(own) if rows is None else channels.dead(rows)
        summed = "sum" if call.operator == "aten.index_add.default" else None
        if len(added) == len(own):
            channels.set_dead(call, combined(call.arguments.get("reduce", summed), own, added))


@register
class IndexPut(Operator):
    """Values written to, or added at, the places that index tensors and masks name."""

    names = ("aten.index_put.default", "aten._unsafe_index_put.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the dimensions that are not indexed with those of the values."""
        labels, places = channels.labels(call["self"]), layout(call, channels)
        freeze_indexed(call, channels, labels, places)
        kept: list[Ids | None] = [labels[d] if d in places else None for d in range(len(labels))]
        for d, other in self._pairs(call, channels, places):
            written = channels.labels(call["values"])[other]
            if d is None or channels.sizes(call["values"])[other] != channels.sizes(call["self"])[d]:
                channels.freeze(written, call.reason("written to places that the data names"))
            else:
                kept[d] = couple_pair(call, channels, kept[d], written)
        channels.set(call, kept)

    def _pairs(self, call: Call, channels: Channels, places: list[int | None]) -> list[tuple[int | None, int]]:
        """Pair dimensions of ``self`` (or ``None``) with dimensions of the values, from the last one on."""
        rank = len(channels.sizes(call["values"]))
        return list(zip(reversed(places), reversed(range(rank)), strict=False))

    def fold(self, call: Call, channels: Channels) -> None:
        """Zeros stay zeros; a constant overwritten by the same constant stays."""
        own, places = channels.dead(call["self"]), layout(call, channels)
        added: list[Dead] = [UNKNOWN] * len(own)
        for d, other in self._pairs(call, channels, places):
            if d is not None and channels.sizes(call["values"])[other] != 1:
                added[d] = channels.dead(call["values"])[other]
        channels.set_dead(call, combined("sum" if call["accumulate"] else None, own, added))


@register
class Segments(AlongPositions):
    """Rows reduced segment by segment along the first dimensions."""

    names = ("aten.segment_reduce.default",)
    data = "data"

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The dimension of the segments, and those that tell the batches of segments apart."""
        return range(call["axis"] % rank + 1)

    def fold(self, call: Call, channels: Channels) -> None:
        """A sum of zeros is zero; other reductions of an empty segment are not."""
        if call["reduce"] == "sum" and not call["initial"]:
            super().fold(call, channels)
