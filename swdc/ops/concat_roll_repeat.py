"""Operators that combine or reorder labels: concatenation, stacking, rolling, flipping, repeating."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Value
from swdc.ir.groups import Ids
from swdc.ops.along_positions import AlongPositions
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
        result[dim] = None
        if any(p is not None for p in parts):
            sizes = [_promoted(call, list(channels.sizes(v)), 1)[dim] for v in values]
            result[dim] = np.concatenate(
                [self._labelled(call, channels, *part) for part in zip(parts, sizes, strict=True)]
            )
        channels.set(call, result)

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
            result[dim] = np.concatenate([_full(x[dim], size) for x, size in zip(dead, sizes, strict=True)])
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
    """Stacking along a new dimension, which holds no channels; along the others the inputs are coupled."""

    names = ("aten.stack.default",)
    timed_as = "Transpose"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the inputs dimension by dimension."""
        labels = [channels.labels(v) for v in call.tensors()]
        result = labels[0]
        for other in labels[1:]:
            result = [couple_pair(call, channels, a, b) for a, b in zip(result, other, strict=True)]
        result.insert(call["dim"] % len(call.shape), None)
        channels.set(call, result)

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant that all inputs share stays."""
        result = agreeing([channels.dead(v) for v in call.tensors()])
        result.insert(call["dim"] % len(call.shape), UNKNOWN)
        channels.set_dead(call, result)


class _Movement(Operator):
    """The same indices in another order, or several times over: dead values move with the labels."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Move the labels; freeze those that cannot be followed."""
        labels = channels.labels(call["self"])
        if not self.follows(call, labels):
            for ids in labels:
                channels.freeze(
                    ids, call.reason("moves channels between dimensions, or in a way that depends on the data")
                )
            channels.set(call, [None] * len(call.shape))
            return
        channels.set(call, self.move(call, labels, None))

    def fold(self, call: Call, channels: Channels) -> None:
        """Move the dead values."""
        if not self.follows(call, channels.labels(call["self"])):
            return
        labels, dead = channels.labels(call["self"]), channels.dead(call["self"])
        known = [UNKNOWN if ids is None else d for ids, d in zip(labels, dead, strict=True)]
        channels.set_dead(call, self.move(call, known, UNKNOWN))

    def follows(self, call: Call, labels: list[Any]) -> bool:
        """Whether ``move`` says where every channel goes."""
        return True

    def move(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Return the entries of the result's dimensions, given those of the input; ``fill`` means none."""
        raise TypeError(f"{type(self).__name__} has to say how labels move")


def _moved(items: Any, how: Any) -> Any:
    """Apply a movement to labels or dead values; a value shared by all indices stays the same."""
    return how(items) if isinstance(items, np.ndarray) else items


@register
class Flip(_Movement):
    """The indices of some dimensions in reverse order."""

    names = ("aten.flip.default", "aten.fliplr.default", "aten.flipud.default")
    timed_as = "Transpose"

    def move(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Reverse the named dimensions."""
        named = {"fliplr": [1], "flipud": [0]}.get(call.operator.split(".")[1]) or call["dims"]
        over = {d % len(dims) for d in named} if dims else set()
        return [_moved(x, lambda a: a[::-1].copy()) if d in over else x for d, x in enumerate(dims)]


@register
class Rotation(_Movement):
    """A rotation by quarter turns in the plane of two dimensions."""

    names = ("aten.rot90.default",)

    def move(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """A quarter turn swaps the dimensions and reverses one, a half turn reverses both."""
        first, second = (d % len(dims) for d in call["dims"])
        turns, result = call["k"] % 4, list(dims)
        if turns % 2:
            result[first], result[second] = result[second], result[first]
        reverse = {0: (), 1: (first,), 2: (first, second), 3: (second,)}[turns]
        return [_moved(x, lambda a: a[::-1].copy()) if d in reverse else x for d, x in enumerate(result)]


@register
class Roll(_Movement):
    """A cyclic shift: what leaves at one end comes back at the other."""

    names = ("aten.roll.default",)
    timed_as = "Transpose"

    def _shifts(self, call: Call, rank: int) -> Iterator[tuple[int, Any]]:
        return ((d % rank, shift) for d, shift in zip(call["dims"], call["shifts"], strict=True))

    def follows(self, call: Call, labels: list[Any]) -> bool:
        """False if all dimensions are rolled as one, if one is rolled twice, or if a shift depends on the data."""
        if all(ids is None for ids in labels):
            return True
        shifts = list(self._shifts(call, len(labels))) if call["dims"] else []
        known = all(isinstance(shift, int) for d, shift in shifts if labels[d] is not None)
        return known and 0 < len(shifts) == len({d for d, _ in shifts})

    def move(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Roll each dimension by its shift."""
        result = list(dims)
        for d, shift in self._shifts(call, len(dims)) if call["dims"] else ():
            result[d] = _moved(dims[d], lambda a, shift=shift: np.roll(a, shift))
        return result

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The new shift counts the kept indices among those that leave at the end."""
        if not call["dims"]:
            return {}
        shifts = []
        for d, shift in self._shifts(call, len(call.shape)):
            mask = kept.mask(call["self"], d)
            if mask is not None and not mask.all():
                shift = int(mask[len(mask) - shift % len(mask) :].sum())
            shifts.append(shift)
        return {"shifts": shifts}


@register
class RepeatInterleave(_Movement):
    """Each index several times in a row."""

    names = ("aten.repeat_interleave.self_int",)

    def follows(self, call: Call, labels: list[Any]) -> bool:
        """False if all dimensions are repeated as one, or if the number of repeats depends on the data."""
        if call["dim"] is None:
            return all(ids is None for ids in labels) or (len(labels) == 1 and isinstance(call["repeats"], int))
        return labels[call["dim"]] is None or isinstance(call["repeats"], int)

    def move(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Repeat the labels of one dimension."""
        if call["dim"] is None:
            dims = dims if len(dims) == 1 else [fill]
        over = (call["dim"] or 0) % len(dims)
        return [_moved(x, lambda a: np.repeat(a, call["repeats"])) if d == over else x for d, x in enumerate(dims)]

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """A given size of the result becomes the number of its kept channels."""
        dim = (call["dim"] or 0) % len(call.shape)
        count = kept.count(call.node, dim)
        return {} if count is None or not isinstance(call["output_size"], int) else {"output_size": count}


@register
class RepeatByTensor(AlongPositions):
    """Each index repeated in a row, as often as a tensor says."""

    names = ("aten.repeat_interleave.self_Tensor",)
    constants = True

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """If no dimension is named, all dimensions become one."""
        return [fill] if call["dim"] is None else dims
