"""Operators that work along positions and treat every index of the other dimensions alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, register
from swdc.ops.special_activations import zero_only


def is_several(call: Call) -> bool:
    """Whether a call returns a tuple of tensors."""
    return bool(call.shape) and isinstance(call.shape[0], tuple)


def each_result(call: Call, dims: list[Any]) -> list[Any]:
    """Return the entries of a result's dimensions; if there are several results, a copy for each."""
    return [list(dims) for _ in call.shape] if is_several(call) else dims


class AlongPositions(Operator):
    """Works along some dimensions of one tensor, which keep all their indices; channels along the others pass.

    ``constants`` says that a constant channel stays constant; otherwise only zero does.
    """

    data: ClassVar[str] = "self"
    constants: ClassVar[bool] = False

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """Return the dimensions that the operator works along; by default the last one."""
        dim = call.arguments.get("dim", -1)
        return range(rank) if dim is None else dim if isinstance(dim, list | tuple) else [dim]

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels along these dimensions."""
        x = call[self.data]
        labels = channels.labels(x)
        over = self._over(call, len(labels))
        channels.hold(x, over, call)
        for value in call.tensors():
            if value is not x:
                channels.freeze_value(value, call.reason("says where to read"))
        rest = [None if d in over else ids for d, ids in enumerate(labels)]
        channels.set(call, each_result(call, self.result(call, rest, None)))

    def fold(self, call: Call, channels: Channels) -> None:
        """A channel of zeros stays zero."""
        dead = channels.dead(call[self.data])
        known = dead if self.constants else [zero_only(d) for d in dead]
        channels.set_dead(call, each_result(call, self.result(call, known, UNKNOWN)))

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Return the entries of the result's dimensions, given those of the input; ``fill`` means none."""
        return dims

    def _over(self, call: Call, rank: int) -> set[int]:
        return {d % rank for d in self.along(call, rank)} if rank else set()


@register
class Triangle(AlongPositions):
    """A triangle of each matrix, zero elsewhere."""

    names = ("aten.tril.default", "aten.triu.default")

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """Rows and columns."""
        return (-2, -1)


@register
class Diagonal(AlongPositions):
    """The diagonal along two dimensions, as a new last one."""

    names: ClassVar[tuple[str, ...]] = ("aten.diagonal.default", "aten.diagonal_copy.default")
    constants = True

    def _pair(self, call: Call) -> tuple[int, int]:
        return call.arguments.get("dim1", -2), call.arguments.get("dim2", -1)

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """Both dimensions."""
        return self._pair(call)

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Both dimensions disappear, and a new last one is added."""
        over = self._over(call, len(dims))
        return [*(x for d, x in enumerate(dims) if d not in over), fill]


@register
class DiagonalOfMatrices(Diagonal):
    """The diagonal along two dimensions, under the name that linear algebra gives to the input."""

    names = ("aten.linalg_diagonal.default",)
    data = "A"


@register
class DiagonalMatrix(AlongPositions):
    """Matrices with the last dimension on their diagonal, zero elsewhere."""

    names = ("aten.diag_embed.default",)

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The last dimension."""
        return (-1,)

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """Rows and columns take its place."""
        rank = len(dims) + 1
        over = {call["dim1"] % rank, call["dim2"] % rank}
        rest = iter(dims[:-1])
        return [fill if d in over else next(rest) for d in range(rank)]
