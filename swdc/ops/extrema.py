"""The largest or smallest value over dimensions, and its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops import statistics
from swdc.ops.base import name_of, register
from swdc.ops.reduction import ExactStatistic, Reduction, hold_over


@register
class Extremum(Reduction):
    """The largest or smallest value: if channels are removed, zero still counts among the values."""

    names: ClassVar[tuple[str, ...]] = tuple(f"aten.{kind}.default" for kind in ("amax", "amin", "max", "min"))
    exact: ClassVar[str] = "swdc.extremum"

    def constants(self, dead: list[Dead], results: int) -> list[Any]:
        """The extremum of a constant is that constant."""
        return dead

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Say in one form whether it is the largest or the smallest."""
        changes = super().resize(call, kept)
        return {**changes, "largest": call.arguments.get("largest", "max" in call.operator)} if changes else {}


@register
class ExactExtremum(ExactStatistic, Extremum):
    """The largest or smallest among the kept channels and zero."""

    names = ("swdc.extremum",)
    modules = (statistics.Extremum,)
    options = (*ExactStatistic.options, "largest")

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the extremum over the kept channels."""
        return {"operator": "aten.amax.default" if call["largest"] else "aten.amin.default", "dim": call["dim"] or []}


@register
class ExtremumAndPlace(Extremum):
    """The largest or smallest value, and its place: if the place is read, the channels are frozen."""

    names: ClassVar[tuple[str, ...]] = ("aten.max.dim", "aten.min.dim")
    exact: ClassVar[str] = "swdc.extremum_and_place"

    def selects(self, target: Any, arguments: Mapping[str, Any]) -> tuple[int | None, bool] | None:
        """One value."""
        return 1, "max" in name_of(target)

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels if the place is read, because it is the number of a channel."""
        if not all(name_of(user.target) == "operator.getitem" and user.args[1] == 0 for user in call.node.users):
            hold_over(call, channels)
        super().couple(call, channels)

    def constants(self, dead: list[Dead], results: int) -> list[Any]:
        """The place is unknown."""
        return [dead, [UNKNOWN] * len(dead)]


@register
class ExactExtremumAndPlace(ExactStatistic, ExtremumAndPlace):
    """The largest or smallest among the kept channels and zero; the place counts kept channels only."""

    names = ("swdc.extremum_and_place",)
    modules = (statistics.ExtremumAndPlace,)
    options = (*ExactStatistic.options, "largest")

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the extremum over the kept channels, and its place."""
        return {"operator": "aten.max.dim" if call["largest"] else "aten.min.dim", "dim": call["dim"][0]}
