"""Sums, means and extrema over dimensions."""

from __future__ import annotations

from typing import Any, ClassVar

from swdc.call import Call
from swdc.channels import Channels
from swdc.ops.activation import zero_only
from swdc.ops.base import Operator, register


def reduced(call: Call, rank: int) -> set[int]:
    """Return the dimensions that a call reduces; all where it names none."""
    dims = call.arguments.get("dim")
    if dims is None or dims == []:
        return set(range(rank))
    return {d % rank for d in (dims if isinstance(dims, list | tuple) else [dims])}


def remaining(call: Call, values: list[Any], over: set[int]) -> list[Any]:
    """Return what is known along each dimension of the result, given what is known along those of the input."""
    if call.arguments.get("keepdim"):
        return [None if d in over else v for d, v in enumerate(values)]
    return [v for d, v in enumerate(values) if d not in over]


@register
class Mean(Operator):
    """Means and extrema: channels that they run over stay, the others pass, and constants stay what they are."""

    names: ClassVar[tuple[str, ...]] = ("aten.mean.dim", "aten.mean.default", "aten.amax.default", "aten.amin.default")
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels that the statistic runs over."""
        labels = channels.labels(call["self"])
        over = reduced(call, len(labels))
        for dim in over:
            channels.freeze(
                labels[dim], call.reason("a statistic over the channels, which depends on how many there are")
            )
        channels.set(call, remaining(call, labels, over))

    def fold(self, call: Call, channels: Channels) -> None:
        """The mean of a constant is that constant."""
        dead = channels.dead(call["self"])
        known = remaining(call, list(dead), reduced(call, len(dead)))
        channels.set_dead(call, [float("nan") if d is None else d for d in known])


@register
class Sum(Mean):
    """Sums: a dead channel that is zero adds nothing, so it may go."""

    names = ("aten.sum.dim_IntList", "aten.sum.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels that are summed over end here."""
        labels, dead = channels.labels(call["self"]), channels.dead(call["self"])
        over = reduced(call, len(labels))
        for dim in over:
            channels.absorb(call, labels[dim], dead[dim], folds=False)
        channels.set(call, remaining(call, labels, over))

    def fold(self, call: Call, channels: Channels) -> None:
        """Only zero is known: other constants are multiplied by the number of positions."""
        dead = channels.dead(call["self"])
        known = remaining(call, list(dead), reduced(call, len(dead)))
        channels.set_dead(call, [float("nan") if d is None else zero_only(d) for d in known])
