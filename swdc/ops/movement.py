"""Operators that only move labels: concatenation, splitting, slicing, indexing, permuting dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from swdc.call import Call
from swdc.channels import UNKNOWN, Channels, Dead, at
from swdc.kept import Kept
from swdc.ops.base import Operator, register

_END = 2**62


def _full(dead: Dead, size: int) -> Any:
    return np.broadcast_to(np.asarray(dead, dtype=np.float64), (size,))


@register
class Concatenation(Operator):
    """Concatenation puts labels one after another; along the other dimensions the inputs go together."""

    names = ("aten.cat.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the labels along the dimension, couple all others."""
        values = call.tensors()
        labels = [channels.labels(v) for v in values]
        dim = call["dim"] % len(labels[0])
        result: list[Any] = list(labels[0])
        for other in labels[1:]:
            for d in range(len(result)):
                if d != dim and not (result[d] is None and other[d] is None):
                    result[d] = channels.join(result[d], other[d], call)
        parts = [ids[dim] for ids in labels]
        if all(p is None for p in parts):
            result[dim] = None
        else:
            result[dim] = np.concatenate([self._labelled(call, channels, v, dim) for v in values])
        channels.set(call, result)

    def _labelled(self, call: Call, channels: Channels, value: Any, dim: int) -> Any:
        """Return the labels of a part; frozen ones where it has none."""
        ids = channels.channels(value, dim)
        if ids is None:
            ids = channels.fresh(channels.sizes(value)[dim])
            channels.freeze(ids, call.reason("concatenated with a dimension that holds no channels"))
        return ids

    def fold(self, call: Call, channels: Channels) -> None:
        """Dead values stand one after another, too."""
        values = call.tensors()
        labels = channels.labels(call.node)
        result: list[Dead] = [UNKNOWN] * len(labels)
        dim = call["dim"] % len(labels)
        for d, ids in enumerate(labels):
            if ids is None:
                continue
            dead = [channels.dead(v)[d] for v in values]
            if d == dim:
                result[d] = np.concatenate([_full(x, channels.sizes(v)[d]) for x, v in zip(dead, values, strict=True)])
            else:
                result[d] = dead[0] if all(np.array_equal(dead[0], x) for x in dead[1:]) else UNKNOWN
        channels.set_dead(call, result)


@register
class Split(Operator):
    """Splitting along a dimension hands each part its own labels."""

    names = ("aten.split_with_sizes.default", "aten.split.Tensor", "aten.chunk.default", "aten.unbind.int")

    def _parts(self, call: Call) -> list[slice]:
        dim = call["dim"]
        sizes = [1] * len(call.shape) if call.operator == "aten.unbind.int" else [s[dim] for s in call.shape]  # type: ignore[index]
        ends = np.cumsum([int(s) for s in sizes])
        return [slice(int(e) - int(s), int(e)) for s, e in zip(sizes, ends, strict=True)]

    def couple(self, call: Call, channels: Channels) -> None:
        """Cut the labels where the tensor is cut."""
        labels = channels.labels(call["self"])
        dim = call["dim"] % len(labels)
        ids = labels[dim]
        if call.operator == "aten.unbind.int":
            channels.freeze(ids, call.reason("takes the dimension apart index by index"))
            rest = [x for d, x in enumerate(labels) if d != dim]
            channels.set(call, [list(rest) for _ in call.shape])
        elif ids is None:
            channels.set(call, [list(labels) for _ in call.shape])
        else:
            parts = [ids[p] for p in self._parts(call)]
            for part in parts:
                channels.part(part)
            channels.set(call, [[*labels[:dim], part, *labels[dim + 1 :]] for part in parts])

    def fold(self, call: Call, channels: Channels) -> None:
        """Dead values are cut alike."""
        dead = channels.dead(call["self"])
        dim = call["dim"] % len(dead)
        if call.operator == "aten.unbind.int":
            rest = [x for d, x in enumerate(dead) if d != dim]
            channels.set_dead(call, [rest for _ in call.shape])
        elif channels.labels(call["self"])[dim] is None:
            channels.set_dead(call, [list(dead) for _ in call.shape])
        else:
            parts = [[*dead[:dim], at(dead[dim], p), *dead[dim + 1 :]] for p in self._parts(call)]
            channels.set_dead(call, parts)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Sizes are what is left of each part; equal parts may become unequal."""
        dim = call["dim"]
        if call.operator == "aten.unbind.int" or kept.mask(call["self"], dim) is None:
            return {}
        shapes = kept.outputs(call.node, call.shape)
        return {"operator": "aten.split_with_sizes.default", "split_sizes": [s[dim] for s in shapes], "dim": dim}


@register
class Item(Operator):
    """Taking one result of several."""

    names = ("operator.getitem",)

    def couple(self, call: Call, channels: Channels) -> None:
        """The result has the labels of that item."""
        items: Any = channels.labels(call["0"])
        channels.set(call, items[call["1"]])

    def fold(self, call: Call, channels: Channels) -> None:
        """And its dead values."""
        items: Any = channels.dead(call["0"])
        item = items[call["1"]]
        channels.set_dead(call, item if isinstance(item, list | tuple) else [UNKNOWN] * len(call.shape))


@register
class Slice(Operator):
    """A range of indices along a dimension."""

    names = ("aten.slice.Tensor",)

    def _is_known(self, call: Call) -> bool:
        return not any(isinstance(call[name], fx.Node) for name in ("start", "end", "step"))

    def _range(self, call: Call, size: int) -> slice:
        start, end = call["start"] or 0, _END if call["end"] is None else call["end"]
        return slice(start, min(end, size) if end >= 0 else end, call["step"])

    def couple(self, call: Call, channels: Channels) -> None:
        """Cut the labels where the tensor is cut."""
        labels = channels.labels(call["self"])
        dim = call["dim"] % len(labels)
        ids = labels[dim]
        if not self._is_known(call):
            channels.freeze(ids, call.reason("takes a number of indices that depends on the data"))
            labels[dim] = None
        elif ids is not None:
            if call["step"] != 1:
                channels.freeze(ids, call.reason("takes every n-th index"))
            labels[dim] = ids[self._range(call, len(ids))]
            channels.part(labels[dim])
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Cut the dead values alike."""
        dead = channels.dead(call["self"])
        dim = call["dim"] % len(dead)
        ids = channels.channels(call["self"], dim)
        if ids is not None and self._is_known(call):
            dead[dim] = at(dead[dim], self._range(call, len(ids)))
        channels.set_dead(call, dead)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The bounds are the numbers of kept indices before them."""
        mask = kept.mask(call["self"], call["dim"])
        if mask is None or mask.all():
            return {}
        bounds = self._range(call, len(mask)).indices(len(mask))
        return {"start": int(mask[: bounds[0]].sum()), "end": int(mask[: bounds[1]].sum())}
