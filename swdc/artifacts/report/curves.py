"""The trade-off of a sweep: what every cell gave over the share that was removed, and over what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from swdc.artifacts.report.numbers import number, share
from swdc.artifacts.report.scales import Scale
from swdc.artifacts.report.sweep_document import PLACE

SHARE = "target"
COSTS = {
    "parameters": "parameters left", "operations": "operations left", "macs": "multiply-adds left",
    "milliseconds": "milliseconds",
}  # fmt: skip
"""Results of a cell that say what it costs, and what they are called at an axis; each has a curve of its own."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 280, 56, 22, 14, 46


@dataclass(frozen=True)
class Point:
    """A cell in a picture, and what is said of it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A picture: the points of all cells, and the line through the best of every share."""

    name: str
    across: str
    width: int
    height: int
    left: int
    right: int
    ground: int
    summit: int
    points: tuple[Point, ...]
    best: tuple[Point, ...]
    ticks_across: tuple[tuple[str, float], ...]
    ticks_up: tuple[tuple[str, float], ...]
    level: float | None = None
    """Where a dashed line goes across the picture."""

    @property
    def line(self) -> str:
        """The line through the best points, as the attribute of a polyline."""
        return " ".join(f"{point.x:g},{point.y:g}" for point in self.best)


def draw_curves(sweep: Mapping[str, Any]) -> list[Curve]:
    """Return the pictures of a sweep: over the share removed, and over each cost that its cells have."""
    cells = [cell for cell in sweep["cells"] if cell.get(sweep["metric"]) is not None]
    costs = [name for name in COSTS if name != sweep["metric"] and cells and all(_has(cell, name) for cell in cells)]
    return [_curve(sweep, cells, across) for across in (SHARE, *costs)] if cells else []


def _has(cell: Mapping[str, Any], name: str) -> bool:
    return cell.get(name) is not None


def _curve(sweep: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], across: str) -> Curve:
    metric = sweep["metric"]
    means = [(mean, best["value"], best) for best in sweep["best"] for mean in _means(cells, best, across)]
    means.sort(key=lambda each: each[0])
    horizontal = Scale.over([*(cell[across] for cell in cells), *(m[0] for m in means)], LEFT, WIDTH - RIGHT)
    vertical = Scale.over([*(cell[metric] for cell in cells), *(m[1] for m in means)], HEIGHT - BOTTOM, TOP)
    points = [Point(horizontal.at(c[across]), vertical.at(c[metric]), _told(c, metric, across)) for c in cells]
    best = [Point(horizontal.at(x), vertical.at(y), _told_best(found, metric)) for x, y, found in means]
    return Curve(
        metric, COSTS.get(across, "share removed"), WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP,
        tuple(points), tuple(best),
        tuple((share(x) if across == SHARE else _short(x), horizontal.at(x)) for x in horizontal.ticks()),
        tuple((number(y), vertical.at(y)) for y in vertical.ticks()),
    )  # fmt: skip


def _means(cells: Iterable[Mapping[str, Any]], best: Mapping[str, Any], across: str) -> list[float]:
    """Return the mean over the seeds of where the best cells of a share stand; nothing if the results are missing."""
    found = [cell[across] for cell in cells if all(cell[name] == best[name] for name in PLACE)]
    return [fmean(found)] if found else []


def _told(cell: Mapping[str, Any], metric: str, across: str) -> str:
    cost = "" if across == SHARE else f", {number(cell[across])} {COSTS[across]}"
    where = f"share {share(cell['target'])}, a from {cell['a_min']:g} to {cell['a_max']:g}, seed {cell['seed']:g}"
    return f"{metric} {number(cell[metric])}{cost}: {where}"


def _told_best(best: Mapping[str, Any], metric: str) -> str:
    seeds = f", mean of {best['seeds']} seeds" if best["seeds"] > 1 else ""
    where = f"share {share(best['target'])}: a from {best['a_min']:g} to {best['a_max']:g}"
    return f"best {metric} {number(best['value'])}{seeds} at {where}"


def _short(value: float) -> str:
    """Return a large number with a letter for its thousands or millions."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
