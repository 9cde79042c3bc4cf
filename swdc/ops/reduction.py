"""Sums, means and extrema over dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from swdc import statistics
from swdc.call import Call
from swdc.channels import UNKNOWN, Channels, Dead
from swdc.kept import Kept
from swdc.ops.activation import zero_only
from swdc.ops.base import Leaf, Operator, register


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


class Reduction(Operator):
    """Statistics along some dimensions; the channels of all others pass."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels that the statistic runs over end here, where a dead one is zero."""
        labels, dead = channels.labels(call["self"]), channels.dead(call["self"])
        over = reduced(call, len(labels))
        for dim in over:
            channels.absorb(call, labels[dim], dead[dim], folds=False)
        channels.set(call, remaining(call, labels, over))

    def fold(self, call: Call, channels: Channels) -> None:
        """What is known of the dead channels that pass."""
        dead = channels.dead(call["self"])
        known = remaining(call, list(dead), reduced(call, len(dead)))
        channels.set_dead(call, [UNKNOWN if d is None else self.constant(d) for d in known])

    def constant(self, dead: Dead) -> Dead:
        """Return the statistic of nothing but the value of a dead channel: zero where that is zero, unless said."""
        return zero_only(dead)


@register
class Mean(Reduction):
    """Means: dead channels are zeros that stay in the divisor."""

    names: ClassVar[tuple[str, ...]] = ("aten.mean.dim", "aten.mean.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """A mean in a type of its own keeps its channels."""
        if call.arguments.get("dtype") is not None:
            hold_type(call, channels)
        super().couple(call, channels)

    def constant(self, dead: Dead) -> Dead:
        """The mean of a constant is that constant."""
        return dead

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The mean over what is left keeps the original divisor."""
        return exactly(call, kept, EXACT_MEAN)


EXACT_MEAN = "swdc.mean"


@register
class ExactMean(Mean, Leaf):
    """A mean with the divisor of the sizes in ``widths``, however many of them are left."""

    names = (EXACT_MEAN,)
    modules = (statistics.Mean,)
    data = "self"

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``swdc.statistics.Mean``."""
        return statistics.Mean(call["dim"], call["keepdim"], call["widths"])

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        assert isinstance(module, statistics.Mean)
        return EXACT_MEAN, {"dim": module.dim, "keepdim": module.keepdim, "widths": module.widths}


def hold_type(call: Call, channels: Channels) -> None:
    """Freeze the channels that a statistic of another type than its input runs over."""
    labels = channels.labels(call["self"])
    reason = call.reason("a statistic in a type of its own", edit="cast the value first, then take the statistic")
    for dim in reduced(call, len(labels)):
        channels.freeze(labels[dim], reason)


def exactly(call: Call, kept: Kept, operator: str) -> dict[str, Any]:
    """Return the arguments of the statistic that knows the original sizes, where channels that it runs over go."""
    masks = kept.masks(call["self"])
    over = reduced(call, len(masks))
    if all(masks[d] is None or masks[d].all() for d in over):  # type: ignore[union-attr]
        return {}
    known = call.arguments.get("widths") or [None] * len(masks)
    sizes = [None if mask is None or d not in over else len(mask) for d, mask in enumerate(masks)]
    return {
        "operator": operator,
        "dim": sorted(over),
        "keepdim": bool(call.arguments.get("keepdim")),
        "widths": [size if width is None else width for width, size in zip(known, sizes, strict=True)],
    }


@register
class Extremum(Reduction):
    """Extrema: channels that they run over stay, the others pass, and constants stay what they are."""

    names = ("aten.amax.default", "aten.amin.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels that the statistic runs over."""
        labels = channels.labels(call["self"])
        over = reduced(call, len(labels))
        for dim in over:
            channels.freeze(
                labels[dim], call.reason("a statistic over the channels, which depends on how many there are")
            )
        channels.set(call, remaining(call, labels, over))

    def constant(self, dead: Dead) -> Dead:
        """The extremum of a constant is that constant."""
        return dead


@register
class Sum(Reduction):
    """Sums: a dead channel that is zero adds nothing, so it may go."""

    names = ("aten.sum.dim_IntList", "aten.sum.default")
