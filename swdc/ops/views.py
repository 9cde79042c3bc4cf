"""Views: dimensions that are merged, split and regrouped.

Sizes are never patched: after surgery each literal size is derived again, as the number of kept labels along its
dimension. A dimension that is split loses channels along one factor, which its later uses decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Ids
from swdc.ops.base import Operator, name_of, register, target_of
from swdc.ops.freezing import freeze_call
from swdc.ops.identity import Evaluation, Identity, alias_of

_SIZES = {"view": "size", "_unsafe_view": "size", "reshape": "shape", "unflatten": "sizes"}
"""The argument that gives the shape, by operator."""

_STRICT = ("aten.view.default", "aten._unsafe_view.default")
"""Views that fail if a tensor has another memory layout, as it may on another device."""


def factors(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Match two shapes: return minimal runs of dimensions with equal products, ignoring sizes of one.

    There are none if a shape has no elements, or if the two have not equally many. A size is negative if it is one at
    some sizes of the inputs only.
    """
    if not _as_many(before, after):
        return []
    left, right = ([d for d, size in enumerate(shape) if size != 1] for shape in (before, after))
    runs: list[tuple[list[int], list[int]]] = []
    while left and right:
        run = ([left.pop(0)], [right.pop(0)])
        while (a := prod(before[d] for d in run[0])) != (b := prod(after[d] for d in run[1])):
            run[a > b].append((right if a > b else left).pop(0))
        runs.append(run)
    return runs


def _as_many(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether two shapes have equally many elements, and any."""
    return min((*before, *after), default=1) > 0 and prod(before) == prod(after)


def _constant(dead: Dead) -> float:
    """Return the value that all dead channels of a dimension share, or NaN."""
    values = np.ravel(dead)
    return float(values[0]) if len(values) and (values == values[0]).all() else UNKNOWN


def _staying(held: list[int], dead: list[Dead]) -> list[int]:
    """Return which of several merged dimensions may lose channels: those whose dead channels are zero, if any are;
    else those that share one other constant.
    """  # fmt: skip
    known = {d: _constant(dead[d]) for d in held}
    constants = [0.0, *(value for value in known.values() if value == value)]
    return next((found for c in constants if (found := [d for d in held if known[d] == c])), held)


def _inferred(elements: Any, others: Any, shape: Sequence[Any]) -> Any:
    """Return the size that is left to be inferred; sizes may be symbols.

    If the others do not divide the elements at any size, it is the leading sizes, if it is so many as these.
    """
    left = elements // others
    leading: Any = 1
    exact = left * others == elements
    for size in () if exact is True else shape:
        leading = leading * size
        if _hint(leading) == _hint(left):
            return leading
    return left


def _hint(size: Any) -> Any:
    """Return a size as it is in this run."""
    return size.node.hint if isinstance(size, torch.SymInt) else size


@register
class View(Operator):
    """A change of shape that keeps the order of elements."""

    any_order = True
    names: ClassVar[tuple[str, ...]] = (
        "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints", "aten.unflatten.int",
        "aten.view_as.default", "aten.reshape_as.default",
    )  # fmt: skip
    repeats = True
    moves_singles = True
    regroups = True
    timed_as = ""

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The given sizes, of which one may follow from the others; there are as many elements as before."""
        name = _SIZES.get(target._schema.name.partition("::")[2], "")
        if name not in ("size", "shape"):
            return None
        sizes, elements = list(arguments[name]), arguments["self"].numel()
        inferred = next((d for d, size in enumerate(sizes) if type(size) is int and size == -1), None)
        others = prod(size for d, size in enumerate(sizes) if d != inferred)
        if inferred is not None:
            sizes[inferred] = _inferred(elements, others, arguments["self"].shape)
            others = others * sizes[inferred]
        torch._check(others == elements)
        return [sizes]

    def couple(self, call: Call, channels: Channels) -> None:
        """Follow each run of dimensions that is regrouped."""
        labels = channels.labels(call["self"])
        result: list[Any] = [None] * len(call.shape)
        if 0 in channels.sizes(call["self"]):
            freeze_call(call, channels, "has no elements, which could tell the dimensions apart")
            return
        before, after = channels.sizes(call["self"]), channels.sizes(call.node)
        if not _as_many(before, after):
            freeze_call(call, channels, "has the shape of its result at some sizes of the inputs only")
            return
        for left, right in factors(before, after):
            if all(labels[d] is None for d in left):
                continue
            if len(left) == len(right) == 1:
                result[right[0]] = labels[left[0]]
            else:
                self._regroup(call, channels, left, right, result)
        if "other" in call.arguments:  # the shape is that of another value, so it shrinks with it
            for dim, ids in enumerate(channels.labels(call["other"])):
                if ids is not None or result[dim] is not None:
                    result[dim] = channels.join(result[dim], ids, call)
        channels.set(call, result)

    def _regroup(self, call: Call, channels: Channels, left: list[int], right: list[int], result: list[Any]) -> None:
        labels, static = channels.labels(call["self"]), channels.static(call["self"])
        inner, edit = _inner(left, static, labels), _edit([call.shape[d] for d in right])
        for d in left:
            if d not in inner:
                channels.freeze(labels[d], call.reason("merged with a dimension of symbolic size", edit))
        if all(labels[d] is None for d in inner):
            return
        merged = self._merge(call, channels, inner)
        axes = _fitting(len(merged), right, channels.sizes(call.node), channels.static(call.node))
        if axes is None or self._is_ambiguous(call, axes, channels.static(call.node)):
            channels.freeze(merged, call.reason("cut across with a dimension of symbolic size", edit))
        else:
            self._spread(call, channels, merged, axes, result)

    def _merge(self, call: Call, channels: Channels, dims: list[int]) -> Ids:
        """Return one label for each index of the product of ``dims``."""
        labels, sizes = channels.labels(call["self"]), channels.sizes(call["self"])
        lengths = [sizes[d] if (ids := labels[d]) is None else len(ids) for d in dims]
        held = [d for d in dims if labels[d] is not None]
        staying = _staying(held, channels.dead(call["self"]))
        for d in held:
            if d not in staying:
                channels.freeze(labels[d], call.reason("merged with another dimension that holds channels"))
        kept: list[Any] = [labels[d] for d in staying]
        whole = kept[0] if len(kept) == 1 else channels.product(kept, call)
        shape = [length if d in staying else 1 for d, length in zip(dims, lengths, strict=True)]
        return np.broadcast_to(whole.reshape(shape), lengths).ravel()

    def _is_ambiguous(self, call: Call, axes: list[tuple[int, int]], static: list[bool]) -> bool:
        """Whether channels repeat along a dimension whose new size cannot be inferred."""
        if all(static[d] for d, _ in axes) or call.operator.split(".")[1] not in ("view", "reshape", "_unsafe_view"):
            return any(not static[d] for d, _ in axes)
        sizes = call[_SIZES[call.operator.split(".")[1]]]
        repeated = [d for d, _ in axes if not static[d]]
        return any(s == -1 and not static[d] and d not in repeated for d, s in enumerate(sizes))

    def _spread(
        self, call: Call, channels: Channels, merged: Ids, axes: list[tuple[int, int]], result: list[Any]
    ) -> None:
        """Give the labels to the dimensions along which they differ."""
        grid = merged.reshape([length for _, length in axes])
        varying = [a for a in range(grid.ndim) if (grid != grid.take([0], a)).any()] or [grid.ndim - 1]
        whole = grid[tuple(slice(None) if a in varying else 0 for a in range(grid.ndim))]
        along = [np.ascontiguousarray(whole)] if whole.ndim == 1 else channels.factor(whole, call)
        for a, labels in zip(varying, along, strict=True):
            result[axes[a][0]] = labels

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant shared by all channels stays; constants of single channels follow them into a merged dimension."""
        x = call["self"]
        labels, dead = channels.labels(x), channels.dead(x)
        result: list[Dead] = [UNKNOWN] * len(call.shape)
        for left, right in factors(channels.sizes(x), channels.sizes(call.node)):
            held = [d for d in left if labels[d] is not None]
            values = {_constant(dead[d]) for d in _staying(held, dead)}
            if len(left) == len(right) == 1:
                result[right[0]] = dead[left[0]]
            elif len(held) == len(right) == 1 and np.ndim(dead[held[0]]) and all(channels.static(x)[d] for d in left):
                shape = [channels.sizes(x)[d] for d in left]
                own = np.reshape(dead[held[0]], [-1 if d == held[0] else 1 for d in left])
                result[right[0]] = np.broadcast_to(own, shape).ravel()
            elif len(values) == 1:
                value = values.pop()
                result = [value if d in right else known for d, known in enumerate(result)]
        channels.set_dead(call, result)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Literal sizes become the number of kept labels."""
        name = _SIZES.get(call.operator.split(".")[1])
        if name is None:
            return {}
        start = 0
        if name == "sizes":
            start = call["dim"] % (len(call.shape) - len(call["sizes"]) + 1)
        return {name: kept.sizes(call.node, call[name], start)}

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the shape does not change."""
        return alias_of(call["self"])

    def asks_sizes(self, call: Call, value: fx.Node) -> bool:
        """True for a second value that only gives the shape."""
        return "other" in call.arguments and call["self"] is not value

    def laid_out_from(self, call: Call, dim: int) -> tuple[fx.Node, int] | None:
        """The last dimension stays the same if its size does."""
        source, shape = call["self"], call.shape
        if not isinstance(source, fx.Node) or dim != len(shape) - 1:
            return None
        before = source.meta[SHAPE]
        return (source, len(before) - 1) if len(before) > 0 and before[-1] == shape[-1] else None

    def anywhere(self, target: Any) -> Any:
        """A reshape makes a copy if a view fails."""
        return target_of("aten.reshape.default") if name_of(target) in _STRICT else target


@register
class StrictView(View):
    """A change of shape that never copies its input."""

    names = ("aten.view.default",)
    needs_layout = True


@register
class Strides(Operator):
    """Memory read with other strides: nothing is known of its channels."""

    names = ("aten.as_strided.default",)
    needs_layout = True
    layout = "read"


@register
class Reinterpretation(Operator):
    """Memory read as another type: nothing is known of its channels."""

    names = ("aten.view.dtype",)
    needs_layout = True
    timed_as = ""


def _edit(sizes: Sequence[Any]) -> str:
    """Return how to free channels that go together in one way at one size, and in another at the next."""
    names = sorted({str(symbol) for size in sizes for symbol in getattr(size, "free_symbols", ())})
    return f"if {' and '.join(names)} never change, trace with dynamic=[...] that lists the other sizes only"


def _inner(dims: list[int], static: list[bool], labels: list[Ids | None]) -> list[int]:
    """Return the innermost of ``dims`` up to the first of symbolic size; this one only if channels repeat along it."""
    inner: list[int] = []
    for d in reversed(dims):
        if static[d] or labels[d] is not None:
            inner.insert(0, d)
        if not static[d]:
            break
    return inner


def _fitting(length: int, dims: list[int], sizes: tuple[int, ...], static: list[bool]) -> list[tuple[int, int]] | None:
    """Divide ``length`` labels over the innermost of ``dims``: return dimensions and shares, ``None`` for a misfit.

    A dimension of symbolic size takes all remaining labels, which repeat along it.
    """
    axes: list[tuple[int, int]] = []
    for d in reversed(dims):
        if length == 1:
            break
        share = sizes[d] if static[d] else length
        if length % share or sizes[d] % share:
            return None
        axes.insert(0, (d, share))
        length //= share
    return axes if length == 1 else None
