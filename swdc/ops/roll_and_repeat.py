"""Operators that reorder labels: rolling, flipping, rotating, repeating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.along_positions import AlongPositions
from swdc.ops.base import Operator, register


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
    measured = 0
    constants = True

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """If no dimension is named, all dimensions become one."""
        return [fill] if call["dim"] is None else dims
