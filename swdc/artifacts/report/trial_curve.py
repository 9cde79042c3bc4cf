"""The trade-off of a compression: the metric of every trial over the share that it removed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from swdc.artifacts.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, Point
from swdc.artifacts.report.numbers import number, percent, share
from swdc.artifacts.report.scales import Scale


def draw_trials(compression: Mapping[str, Any]) -> list[Curve]:
    """Return the picture of a compression; none if no trial came to a network.

    The line goes from the network before through the cuts that lead to the result. The dashed line is the least metric
    that is good enough.
    """
    trials = [trial for trial in compression["trials"] if _drawn(trial)]
    before, least = compression["metric_before"], compression["metric_before"] - compression["most_drop"]
    if not trials or not math.isfinite(least):
        return []
    cuts = [cut["trial"] for cut in compression["cuts"]]
    horizontal = Scale.over([0.0, *(trial["removed"] for trial in trials)], LEFT, WIDTH - RIGHT)
    vertical = Scale.over([before, least, *(trial["metric"] for trial in trials)], HEIGHT - BOTTOM, TOP)
    points = [Point(horizontal.at(t["removed"]), vertical.at(t["metric"]), _told(t)) for t in trials]
    way = [Point(horizontal.at(0.0), vertical.at(before), f"before: metric {number(before)}")]
    way += [
        Point(horizontal.at(t["removed"]), vertical.at(t["metric"]), f"cut {place}: {_told(t)}")
        for place, t in enumerate(cuts, 1)
    ]
    return [
        Curve(
            "metric", f"share of {compression['budget']} removed", WIDTH, HEIGHT, LEFT, WIDTH - RIGHT,
            HEIGHT - BOTTOM, TOP, tuple(points), tuple(way),
            tuple((share(x), horizontal.at(x)) for x in horizontal.ticks()),
            tuple((number(y), vertical.at(y)) for y in vertical.ticks()),
            level=vertical.at(least),
        )
    ]  # fmt: skip


def _drawn(trial: Mapping[str, Any]) -> bool:
    return all(trial[name] is not None and math.isfinite(trial[name]) for name in ("removed", "metric"))


def _told(trial: Mapping[str, Any]) -> str:
    verdict = trial["reason"] or ("good enough" if trial["good"] else "fell too far")
    cut = "" if trial["cut_metric"] is None else f" ({number(trial['cut_metric'])} before recovery)"
    return f"{percent(trial['removed'])} removed, metric {number(trial['metric'])}{cut}: {verdict}"
