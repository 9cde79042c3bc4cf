"""Pictures in the axes of the paper's figures: accuracy over the share that goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.rows import Row

TICKS = (10, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9)
Curve = Mapping[float, tuple[float, float, int]]
"""Mean, deviation and number of accuracies at each target."""


def curve(rows: Sequence[Row], value: str = "accuracy") -> Curve:
    """Return the mean, deviation and number of a value over the seeds at each target, in the order of targets."""
    found: dict[float, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["target"]):
        if row.get(value) is not None:
            found.setdefault(row["target"], []).append(row[value])
    return {t: (fmean(v), stdev(v) if len(v) > 1 else 0.0, len(v)) for t, v in found.items()}


def draw_curves(path: Path, title: str, panels: Mapping[str, Mapping[str, Curve]], dense: float | None = None) -> None:
    """Write a picture (PNG) with one panel for each title, and in it one line for each name, over the targets.

    The axis of targets is logarithmic in what is left. ``dense`` is drawn as a level.
    """
    figure = Figure(figsize=(6.4 * len(panels), 4.8), layout="constrained")
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label, points in lines.items():
            targets = np.array(list(points))
            means, deviations = np.array([list(p[:2]) for p in points.values()]).reshape(-1, 2).T
            color = f"C{labels.index(label)}"  # the same in every panel
            axes.plot(_place(targets), means, marker="o", markersize=3, label=label, color=color)
            axes.fill_between(_place(targets), means - deviations, means + deviations, alpha=0.2, color=color)
        if dense is not None:
            axes.axhline(dense, color="gray", linestyle=":", label="dense")
        _label(axes, name, [target for points in lines.values() for target in points])
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _place(targets: Any) -> Any:
    return -np.log10(1 - np.asarray(targets))


def _label(axes: Any, name: str, targets: Sequence[float]) -> None:
    low, high = 100 * min(targets, default=0), 100 * max(targets, default=1)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks([float(_place(tick / 100)) for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.set(title=name, xlabel="pruning target (%)", ylabel="top-1 accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
