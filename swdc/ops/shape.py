"""Reshaping, permuting and expanding dimensions.

Sizes are never patched: after surgery each literal size is derived again, as the number of labels left along its
dimension. A dimension that is split into several keeps its channels in one of the parts, and couples the others.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from swdc.call import Call
from swdc.channels import UNKNOWN, Channels, Dead
from swdc.groups import Ids
from swdc.kept import Kept
from swdc.ops.base import Operator, freeze_result, register


def factors(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Match two shapes of equal size: minimal runs of dimensions with equal products, in order, sizes of one aside."""
    left, right = ([d for d, size in enumerate(shape) if size != 1] for shape in (before, after))
    runs: list[tuple[list[int], list[int]]] = []
    while left and right:
        run = ([left.pop(0)], [right.pop(0)])
        while (a := prod(before[d] for d in run[0])) != (b := prod(after[d] for d in run[1])):
            run[a > b].append((right if a > b else left).pop(0))
        runs.append(run)
    return runs


def _staying(channels: Channels, held: list[int], labels: list[Ids | None]) -> int:
    """Return which of several merged dimensions keeps its channels: the widest that is not frozen."""
    return max(held, key=lambda d: (channels.is_open(labels[d]), len(labels[d]), d))  # type: ignore[arg-type]


@register
class View(Operator):
    """A change of shape that keeps the order of elements."""

    names = (
        "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
        "aten.unflatten.int", "aten.view_as.default", "aten.reshape_as.default",
    )  # fmt: skip

    def couple(self, call: Call, channels: Channels) -> None:
        """Follow each run of dimensions that is regrouped."""
        x = call["self"]
        before, after = channels.sizes(x), channels.sizes(call.node)
        labels = channels.labels(x)
        static = channels.static(x)
        result: list[Any] = [None] * len(after)
        for left, right in factors(before, after):
            held = [d for d in left if labels[d] is not None]
            if held and not all(static[d] for d in left):
                for d in held:
                    channels.freeze(labels[d], call.reason("merged with a dimension of symbolic size"))
            elif held:
                merged = self._merge(call, channels, left, held, before, labels)
                self._spread(call, channels, merged, right, after, result)
        if "other" in call.arguments:  # the shape is that of another value, and shrinks with it
            for dim, ids in enumerate(channels.labels(call["other"])):
                if ids is not None or result[dim] is not None:
                    result[dim] = channels.join(result[dim], ids, call)
        channels.set(call, result)

    def _merge(
        self,
        call: Call,
        channels: Channels,
        dims: list[int],
        held: list[int],
        sizes: tuple[int, ...],
        labels: list[Ids | None],
    ) -> Ids:
        """Return one label for each index of the product of ``dims``; freeze those of ``held`` that cannot stay."""
        staying = _staying(channels, held, labels)
        for d in held:
            if d != staying:
                channels.freeze(labels[d], call.reason("merged with another dimension that holds channels"))
        shape = [1] * len(dims)
        shape[dims.index(staying)] = sizes[staying]
        ids = labels[staying]
        assert ids is not None
        return np.broadcast_to(ids.reshape(shape), [sizes[d] for d in dims]).ravel()

    def _spread(
        self, call: Call, channels: Channels, merged: Ids, dims: list[int], sizes: tuple[int, ...], result: list[Any]
    ) -> None:
        """Give the labels to the widest of ``dims`` along which they need the least coupling; couple the others."""
        grid = merged.reshape([sizes[d] for d in dims])
        rows = [np.moveaxis(grid, axis, 0).reshape(grid.shape[axis], -1) for axis in range(len(dims))]
        free = [bool((r == r[:, :1]).all()) for r in rows]
        axis = max(range(len(dims)), key=lambda a: (free[a], sizes[dims[a]], a))
        chosen = rows[axis]
        if not free[axis]:
            first = np.ascontiguousarray(np.broadcast_to(chosen[:, :1], chosen.shape)).ravel()
            channels.join(first, chosen.ravel(), call)
        result[dims[axis]] = np.ascontiguousarray(chosen[:, 0])

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero; one constant for all channels stays it."""
        x = call["self"]
        before, after = channels.sizes(x), channels.sizes(call.node)
        labels, dead = channels.labels(x), channels.dead(x)
        result: list[Dead] = [UNKNOWN] * len(after)
        for left, right in factors(before, after):
            held = [d for d in left if labels[d] is not None]
            if not held:
                continue
            known = np.ravel(dead[_staying(channels, held, labels)])
            if len(known) and (known == known[0]).all():
                result = [float(known[0]) if d in right else value for d, value in enumerate(result)]
        channels.set_dead(call, result)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Literal sizes become the number of labels that are left."""
        if "size" in call.arguments and call.operator != "aten.flatten.using_ints":
            name = "size"
        elif "shape" in call.arguments:
            name = "shape"
        elif "sizes" in call.arguments:
            return self._resize_unflatten(call, kept)
        else:
            return {}
        counts = [kept.count(call.node, d) for d in range(len(call[name]))]
        sizes = [
            s if c is None or not isinstance(s, int) or s == -1 else c for s, c in zip(call[name], counts, strict=True)
        ]
        return {name: sizes}

    def _resize_unflatten(self, call: Call, kept: Kept) -> dict[str, Any]:
        rank = len(call.shape)
        start = call["dim"] % (rank - len(call["sizes"]) + 1)
        counts = [kept.count(call.node, start + d) for d in range(len(call["sizes"]))]
        return {"sizes": [s if c is None or s == -1 else c for s, c in zip(call["sizes"], counts, strict=True)]}


@register
class Permutation(Operator):
    """A new order of the dimensions."""

    names = (
        "aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.swapaxes.default", "aten.mT.default",
        "aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default",
    )  # fmt: skip

    def _move(self, call: Call, values: list[Any], sizes: tuple[int, ...], fill: Any) -> list[Any]:
        rank, kind = len(values), call.operator.split(".")[1]
        if kind == "permute":
            return [values[d] for d in call["dims"]]
        if kind == "unsqueeze":
            position = call["dim"] % (rank + 1)
            return [*values[:position], fill, *values[position:]]
        if kind == "squeeze":
            named = call.arguments.get("dim", range(rank))
            dims = {d % rank for d in ([named] if isinstance(named, int) else named)}
            return [v for d, v in enumerate(values) if d not in dims or sizes[d] != 1]
        first, second = {
            "transpose": lambda: (call["dim0"], call["dim1"]),
            "swapaxes": lambda: (call["axis0"], call["axis1"]),
        }.get(kind, lambda: (-1, -2))()
        order = list(values)
        if rank > 1:
            order[first], order[second] = order[second], order[first]
        return order

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels move with their dimensions."""
        x = call["self"]
        channels.set(call, self._move(call, channels.labels(x), channels.sizes(x), None))

    def fold(self, call: Call, channels: Channels) -> None:
        """So do dead values."""
        x = call["self"]
        channels.set_dead(call, self._move(call, channels.dead(x), channels.sizes(x), UNKNOWN))


@register
class Expansion(Operator):
    """Repeating a dimension of size one."""

    names = ("aten.expand.default", "aten.expand_as.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels pass; a dimension that is expanded to the size of another value's takes that one's."""
        x, rank = call["self"], len(call.shape)
        sizes = channels.sizes(x)
        labels: list[Any] = [None] * (rank - len(sizes)) + channels.labels(x)
        if call.operator == "aten.expand_as.default":
            other = channels.labels(call["other"])
            sizes = (1,) * (rank - len(sizes)) + sizes
            for dim, ids in enumerate(other):
                if ids is not None:
                    labels[dim] = ids if sizes[dim] == 1 else channels.join(labels[dim], ids, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """What was there keeps its dead value; what is repeated is not constant."""
        x, rank = call["self"], len(call.shape)
        dead, sizes = channels.dead(x), channels.sizes(x)
        missing = rank - len(sizes)
        known: list[Dead] = [UNKNOWN if s == 1 else d for d, s in zip(dead, sizes, strict=True)]
        channels.set_dead(call, [*[UNKNOWN] * missing, *known])

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Literal sizes become the number of labels that are left."""
        if call.operator == "aten.expand_as.default":
            return {}
        sizes = call["size"]
        counts = [kept.count(call.node, d) for d in range(len(sizes))]
        return {
            "size": [
                s if c is None or not isinstance(s, int) or s == -1 else c for s, c in zip(sizes, counts, strict=True)
            ]
        }


@register
class Repetition(Operator):
    """Tiling: labels repeat with the values."""

    names = ("aten.repeat.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Tile the labels of every dimension that is tiled a known number of times."""
        x = call["self"]
        repeats = call["repeats"]
        own = channels.labels(x)
        labels: list[Any] = [*[None] * (len(repeats) - len(own)), *own]
        if all(ids is None for ids in labels):
            channels.set(call, labels)
            return
        if any(not isinstance(r, int) for r, ids in zip(repeats, labels, strict=True) if ids is not None):
            reason = call.reason("repeated a number of times that depends on the data")
            channels.freeze_value(x, reason)
            channels.set(call, freeze_result(call, channels, reason))
            return
        tiled = [None if i is None else np.tile(i, r) for i, r in zip(labels, repeats, strict=True)]
        channels.set(call, tiled)

    def fold(self, call: Call, channels: Channels) -> None:
        """Constants stay; per-channel ones are tiled."""
        dead = channels.dead(call["self"])
        repeats = call["repeats"]
        padded: list[Dead] = [*[UNKNOWN] * (len(repeats) - len(dead)), *dead]
        tiled = [d if isinstance(d, float) else np.tile(d, r) for d, r in zip(padded, repeats, strict=True)]
        channels.set_dead(call, tiled)
