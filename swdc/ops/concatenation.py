"""Operators that join tensors: concatenation along a dimension, stacking along a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.channels.singles import Singles, dead_of
from swdc.ir.call import Call, Value
from swdc.ir.groups import Ids
from swdc.ops.base import Operator, register
from swdc.ops.identity import Evaluation, Identity, copy_of
from swdc.ops.label_joining import agreeing, couple_pair


def _full(dead: Dead, size: int) -> Any:
    return np.broadcast_to(np.asarray(dead, dtype=np.float64), (size,))


def _tensors(call: Call, channels: Channels) -> list[Value]:
    """Return the tensors to combine, without empty vectors, which torch allows beside any shape."""
    values = call.tensors()
    return [v for v in values if channels.sizes(v) != (0,)] or values


@register
class Concatenation(Operator):
    """Concatenation puts labels one after another; along the other dimensions the inputs are coupled."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}.default" for name in "concatenate hstack vstack row_stack dstack column_stack".split()
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the labels along the dimension, couple all others."""
        values = _tensors(call, channels)
        labels = [_promoted(call, channels.labels(v), None) for v in values]
        dim = _dim(call, len(labels[0]))
        result = labels[0]
        for other in labels[1:]:
            for d in range(len(result)):
                if d != dim:
                    result[d] = couple_pair(call, channels, result[d], other[d])
        parts = [ids[dim] for ids in [_promoted(call, channels.labels(v), None) for v in values]]
        sizes = [_promoted(call, list(channels.sizes(v)), 1)[dim] for v in values]
        singles = self._singles(call, channels)
        for number, own in enumerate(singles):
            if own:
                parts[number] = np.repeat(channels.singles.joined(own, call), sizes[number])
        result[dim] = None
        if any(p is not None for p in parts):
            result[dim] = np.concatenate(
                [self._labelled(call, channels, *part) for part in zip(parts, sizes, strict=True)]
            )
        if any(singles):
            channels.part(result[dim])
        channels.set(call, result)

    def _singles(self, call: Call, channels: Channels) -> list[Singles]:
        """Return for each tensor the single channels that it goes with; none if the dimension has its own channels."""
        values = _tensors(call, channels)
        found = []
        for value, own in zip(values, channels.singles.own(values), strict=True):
            labels = _promoted(call, channels.labels(value), None)
            static = _promoted(call, channels.static(value), True)
            dim = _dim(call, len(labels))
            found.append(own if labels[dim] is None and static[dim] else {})
        return found

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """The single channels of all tensors are those of the result; what vanishes is left out."""
        values, singles = _tensors(call, channels), self._singles(call, channels)
        for own, left_out in zip(channels.singles.own(values), singles, strict=True):
            if not left_out:
                channels.singles.stay(own)
        channels.singles.set(call, channels.singles.common(values))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Tensors that vanish are left out."""
        return _without_vanished(call, kept)

    def _labelled(self, call: Call, channels: Channels, ids: Ids | None, size: int) -> Ids:
        """Return the labels of a part, or fresh frozen ones if it has none."""
        if ids is not None:
            return ids
        ids = channels.fresh(size)
        channels.freeze(ids, call.reason("concatenated with a dimension that holds no channels"))
        return ids

    def fold(self, call: Call, channels: Channels) -> None:
        """Concatenate the dead values as well."""
        values = _tensors(call, channels)
        dead = [_promoted(call, channels.dead(v), UNKNOWN) for v in values]
        dim = _dim(call, len(dead[0]))
        result = agreeing(dead)
        if channels.labels(call.node)[dim] is not None:
            sizes = [_promoted(call, list(channels.sizes(v)), 1)[dim] for v in values]
            singles = self._singles(call, channels)
            along = [dead_of(own) if own else x[dim] for own, x in zip(singles, dead, strict=True)]
            result[dim] = np.concatenate([_full(x, size) for x, size in zip(along, sizes, strict=True)])
        channels.set_dead(call, result)


@register
class Cat(Concatenation):
    """Concatenation that returns a single tensor unchanged."""

    names = ("aten.cat.default", "aten.concat.default")
    timed_as = "Transpose"
    joins = True

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Those of the first tensor, but for the dimension along which the sizes add up."""
        first, *others = [list(x.shape) for x in arguments["tensors"]]
        dim = arguments["dim"]
        if any(len(sizes) != len(first) for sizes in others) or not -len(first) <= dim < len(first):
            return None
        for sizes in others:
            first[dim] = first[dim] + sizes[dim]
            if any(a != b for d, (a, b) in enumerate(zip(first, sizes, strict=True)) if d != dim % len(first)):
                return None
        return [first]

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if there is only one tensor."""
        values = call["tensors"]
        return copy_of(values[0]) if len(values) == 1 else None


_STACKS = {"hstack": (1, 1), "vstack": (0, 2), "row_stack": (0, 2), "dstack": (2, 3), "column_stack": (1, 2)}
"""The dimension along which each of them concatenates, and the rank that it raises its inputs to."""


def _dim(call: Call, rank: int) -> int:
    kind = call.operator.split(".")[1]
    return min(_STACKS[kind][0], rank - 1) if kind in _STACKS else int(call["dim"] % rank)


def _promoted(call: Call, dims: list[Any], fill: Any) -> list[Any]:
    """Return the entries of an input's dimensions, with ``fill`` for dimensions that the operator adds to it."""
    kind = call.operator.split(".")[1]
    missing = _STACKS.get(kind, (0, 0))[1] - len(dims)
    if missing <= 0:
        return list(dims)
    if kind in ("hstack", "vstack", "row_stack"):
        return [*[fill] * missing, *dims]
    after = missing if kind == "column_stack" or len(dims) == 2 else 1
    return [*[fill] * (missing - after), *dims, *[fill] * after]


@register
class Stack(Operator):
    """Stacking along a new dimension, which holds the single channels; along the others the inputs are coupled."""

    names = ("aten.stack.default",)
    timed_as = "Transpose"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the inputs dimension by dimension."""
        labels = [channels.labels(v) for v in call.tensors()]
        result = labels[0]
        for other in labels[1:]:
            result = [couple_pair(call, channels, a, b) for a, b in zip(result, other, strict=True)]
        result.insert(call["dim"] % len(call.shape), self._stacked(call, channels))
        channels.set(call, result)

    def _stacked(self, call: Call, channels: Channels) -> Ids | None:
        """Return the labels along the new dimension: single channels, and fresh ones that stay."""
        singles = channels.singles.own(call.tensors())
        if not any(singles):
            return None
        labels = np.array([channels.singles.joined(own, call) if own else int(channels.fresh(1)[0]) for own in singles])
        stays = [not own for own in singles]
        channels.freeze(labels[stays], call.reason("stacked with a tensor that holds no channel"))
        channels.part(labels)
        return labels

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant that all inputs share stays."""
        values = call.tensors()
        result = agreeing([channels.dead(v) for v in values])
        dim = call["dim"] % len(call.shape)
        held = channels.labels(call.node)[dim] is not None
        singles = channels.singles.own(values)
        result.insert(dim, np.array([dead_of(own) for own in singles]) if held else UNKNOWN)
        channels.set_dead(call, result)

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """The single channels of all tensors are those of the result; what vanishes is left out."""
        channels.singles.set(call, channels.singles.common(call.tensors()))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Tensors that vanish are left out."""
        return _without_vanished(call, kept)


def _without_vanished(call: Call, kept: Kept) -> dict[str, Any]:
    """Return the tensors of a call without those that vanish; empty if none does."""
    left = [value for value in call["tensors"] if not kept.vanishes(value)]
    return {} if len(left) == len(call["tensors"]) else {"tensors": left}
