"""Reading by index: by one index, a list of indices, or tensors of indices, as graph networks do along their nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.channels.singles import Single
from swdc.ir.call import Call, Value
from swdc.ops.base import Operator, register
from swdc.ops.label_joining import agreeing, couple_pair

READ_BY_NUMBER = "reads a channel by its number"


@register
class Select(Operator):
    """One index of a dimension, which disappears: the result vanishes with its channel."""

    names = ("aten.select.int", "aten.select_copy.int")
    timed_as = ""
    moves_singles = True

    def couple(self, call: Call, channels: Channels) -> None:
        """The other dimensions pass; an index that is not known holds all channels."""
        labels = channels.labels(call["self"])
        ids = labels.pop(call["dim"] % len(labels))
        if not isinstance(call["index"], int):
            channels.freeze(ids, call.reason(READ_BY_NUMBER))
        channels.set(call, labels)

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """The channel at that index becomes a single one."""
        dim = call["dim"] % len(channels.labels(call["self"]))
        super().follow_singles(call, channels)
        if isinstance(call["index"], int):
            add_single(call, channels, dim, call["index"])

    def fold(self, call: Call, channels: Channels) -> None:
        """The other dimensions keep their dead values."""
        dead = channels.dead(call["self"])
        dead.pop(call["dim"] % len(dead))
        channels.set_dead(call, dead)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The new index is the number of kept channels before the channel."""
        return _renumbered(call, kept)


@register
class Unbind(Operator):
    """Every index of a dimension on its own: each vanishes with its channel."""

    names = ("aten.unbind.int", "aten.unbind_copy.int")
    timed_as = "Transpose"

    def couple(self, call: Call, channels: Channels) -> None:
        """The other dimensions pass."""
        labels = channels.labels(call["self"])
        labels.pop(call["dim"] % len(labels))
        channels.set(call, [list(labels) for _ in call.shape])

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """Each index becomes a single channel."""
        own, dim = channels.singles.of(call["self"]), call["dim"] % len(channels.sizes(call["self"]))
        ids, dead = channels.labels(call["self"])[dim], channels.dead(call["self"])[dim]
        if ids is None:
            channels.singles.set(call, *(own for _ in call.shape))
            return
        values, reason = np.broadcast_to(dead, ids.shape), call.reason("takes the dimension apart index by index")
        pairs = zip(ids.tolist(), values.tolist(), strict=True)
        channels.singles.set(call, *({**own, label: Single(value, reason)} for label, value in pairs))

    def fold(self, call: Call, channels: Channels) -> None:
        """The other dimensions keep their dead values."""
        dead = channels.dead(call["self"])
        dead.pop(call["dim"] % len(dead))
        channels.set_dead(call, [list(dead) for _ in call.shape])


@register
class SelectScatter(Operator):
    """A copy of a tensor with another one written over one index of a dimension."""

    names = ("aten.select_scatter.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channel that is written by its number, couple the other dimensions."""
        labels, written = channels.labels(call["self"]), channels.labels(call["src"])
        dim = call["dim"] % len(labels)
        written.insert(dim, None)
        result = [
            ids if d == dim else couple_pair(call, channels, ids, other)
            for d, (ids, other) in enumerate(zip(labels, written, strict=True))
        ]
        if labels[dim] is not None:
            chosen = labels[dim][[call["index"]]] if isinstance(call["index"], int) else labels[dim]
            channels.freeze(chosen, call.reason("writes a channel by its number"))
        channels.set(call, result)

    def fold(self, call: Call, channels: Channels) -> None:
        """Keep the dead values on which both tensors agree; along ``dim`` those of ``self`` where it is not written."""
        own, written = channels.dead(call["self"]), channels.dead(call["src"])
        dim, index = call["dim"] % len(own), call["index"]
        size, known = channels.sizes(call["self"])[dim], channels.static(call["self"])[dim] and isinstance(index, int)
        own[dim] = np.where(np.arange(size) == index % size, UNKNOWN, own[dim]) if known else UNKNOWN
        written.insert(dim, own[dim])
        channels.set_dead(call, agreeing([own, written]))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The new index is the number of kept channels before the channel."""
        return _renumbered(call, kept)


@register
class IndexSelect(Operator):
    """Rows picked by an index tensor."""

    names = ("aten.index_select.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels along other dimensions pass; those along this one are chosen by the data."""
        labels = channels.labels(call["self"])
        freeze_indices(call, channels, [call["index"]])
        if labels:
            dim = call["dim"] % len(labels)
            channels.freeze(labels[dim], call.reason("indexed by the data"))
            labels[dim] = None
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Picking rows changes no constant; along this dimension they come in another order."""
        dead = channels.dead(call["self"])
        if dead:
            dead[call["dim"] % len(dead)] = UNKNOWN
        channels.set_dead(call, dead)

    def taken(self, target: Any, args: Sequence[Any]) -> tuple[int, torch.Tensor | None] | None:
        """The dimension and the index tensor."""
        return args[1], args[2]


@register
class Index(Operator):
    """Advanced indexing by any number of index tensors and masks."""

    names = ("aten.index.Tensor", "aten._unsafe_index.Tensor")
    finds = by_condition = True
    timed_as = "Transpose"

    def found_nowhere(self, args: Sequence[Any]) -> list[Any]:
        """Make masks false everywhere; other indices stay as they are."""
        x, indices, *rest = args
        none = [i if i is None or i.dtype != torch.bool else torch.zeros_like(i) for i in indices]
        return [x, none, *rest]

    def conditions(self, args: Sequence[Any]) -> list[Any]:
        """The masks."""
        return [i for i in args[1] if i is not None and _type_of(i) in (torch.bool, torch.uint8)]

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels along the dimensions that are not indexed pass."""
        labels = channels.labels(call["self"])
        places = layout(call, channels)
        if len(places) != len(call.shape):
            super().couple(call, channels)
            return
        freeze_indexed(call, channels, labels, places)
        channels.set(call, [None if d is None else labels[d] for d in places])

    def fold(self, call: Call, channels: Channels) -> None:
        """Picking changes no constant."""
        dead, places = channels.dead(call["self"]), layout(call, channels)
        if len(places) == len(call.shape):
            channels.set_dead(call, [UNKNOWN if d is None else dead[d] for d in places])


def layout(call: Call, channels: Channels) -> list[int | None]:
    """Return for each dimension of ``self[indices]`` its dimension of ``self``, or ``None`` if the indices make it.

    Dimensions made by the indices replace the indexed dimensions if these are neighbours; else they come first.
    """
    indexed: list[int] = []
    dim = made = 0
    for index in call["indices"]:
        rank = 1 if index is None else len(channels.sizes(index))
        is_mask = index is not None and channels.dtype(index) in (torch.bool, torch.uint8)
        width = rank if is_mask else 1
        if index is not None:
            indexed += range(dim, dim + width)
            made = max(made, 1 if is_mask else rank)
        dim += width
    rest = [d for d in range(len(channels.sizes(call["self"]))) if d not in indexed]
    neighbours = indexed == list(range(indexed[0], indexed[0] + len(indexed))) if indexed else True
    before = [d for d in rest if indexed and d < indexed[0]] if neighbours else []
    return [*before, *[None] * made, *rest[len(before) :]]


def freeze_indexed(call: Call, channels: Channels, labels: list[Any], places: list[int | None]) -> None:
    """Freeze the channels of the dimensions that are indexed, and those of the indices."""
    for d in set(range(len(labels))) - set(places):
        channels.freeze(labels[d], call.reason("indexed by the data"))
    freeze_indices(call, channels, call["indices"])


def freeze_indices(call: Call, channels: Channels, indices: list[Value | None]) -> None:
    """Freeze the channels of index tensors."""
    for index in indices:
        if index is not None:
            channels.freeze_value(index, call.reason("chooses what is read or written"))


@register
class Gather(Operator):
    """Values picked along one dimension by an index for each place of the result."""

    names = ("aten.gather.default", "aten.take_along_dim.default")
    timed_as = "Transpose"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple values and indices along the other dimensions."""
        x, index = call["self"], self._index(call)
        labels, others = channels.labels(x), channels.labels(index)
        if call["dim"] is None or len(labels) != len(others):
            super().couple(call, channels)
            return
        over = {call["dim"] % len(labels)} if labels else set()
        sizes = channels.sizes(x), channels.sizes(index)
        broadcasts = call.operator == "aten.take_along_dim.default"
        result: list[Any] = []
        for d, (a, b, size, other) in enumerate(zip(labels, others, *sizes, strict=True)):
            if d not in over and size == other:
                result.append(couple_pair(call, channels, a, b))
            elif d not in over and broadcasts and 1 in (size, other):
                result.append(b if size == 1 else a)
            else:
                for ids in (a, b):
                    channels.freeze(ids, call.reason("indexed by the data"))
                result.append(None)
        channels.set(call, result)

    def _index(self, call: Call) -> Any:
        return call["index"] if "index" in call.arguments else call["indices"]

    def fold(self, call: Call, channels: Channels) -> None:
        """Picking changes no constant; nothing is known along the dimension that is picked, or is broadcast."""
        dead, sizes = channels.dead(call["self"]), channels.sizes(call["self"])
        if call["dim"] is not None and len(dead) == len(call.shape):
            over = call["dim"] % max(len(dead), 1)
            own: list[Dead] = [UNKNOWN if size == 1 or n == over else dead[n] for n, size in enumerate(sizes)]
            channels.set_dead(call, own)


def _type_of(index: Any) -> torch.dtype:
    """Return the type of an index, which is a tensor, or a node of a graph of capture."""
    found: torch.dtype = (index.meta["val"] if isinstance(index, fx.Node) else index).dtype
    return found


def add_single(call: Call, channels: Channels, dim: int, index: int) -> None:
    """Add to the single channels of a result that at an index of a dimension of ``self``, if there is one."""
    ids = channels.labels(call["self"])[dim]
    if ids is None:
        return
    dead = np.broadcast_to(channels.dead(call["self"])[dim], ids.shape)
    single = Single(float(dead[index]), call.reason(READ_BY_NUMBER))
    channels.singles.set(call, {**channels.singles.of(call.node), int(ids[index]): single})


def _renumbered(call: Call, kept: Kept) -> dict[str, Any]:
    """Return the new index of a call along a dimension that has lost channels; empty if it has not."""
    mask = kept.mask(call["self"], call["dim"])
    if mask is None or mask.all():
        return {}
    return {"index": int(mask[: call["index"] % len(mask)].sum())}


def gather_call(dim: int, indices: fx.Node) -> tuple[Any, tuple[Any, ...]]:
    """Return the operator that takes the indices in a tensor along a dimension, and its arguments after the value."""
    return torch.ops.aten.index_select.default, (dim, indices)
