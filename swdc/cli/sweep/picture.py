"""Heat maps like Tables 4 to 9 of Tessier et al. (2022): a number over a_min and a_max."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from swdc.cli.sweep.cells import Cell
from swdc.ir.atomic_files import workspace
from swdc.ir.packages import package

MOST_VALUES = 16
"""A sweep over more values of a bound than this is drawn as points."""
Points = dict[Cell, float]


def draw_heat_maps(path: Path, title: str, columns: dict[str, Points]) -> None:
    """Write a picture (PNG) with a heat map for each target (a row) and each name in ``columns``; means over seeds.

    ``a_max`` runs down and ``a_min`` across. Cells that a sampler has drawn anywhere are points in logarithmic axes.
    """
    figure = package("matplotlib.figure", "sweep").Figure
    targets = sorted({cell.target for points in columns.values() for cell in points})
    narrow = max((len(_axis(points, "a_min")) for points in columns.values()), default=1)
    size = (2.4 + (0.9 * min(narrow, MOST_VALUES) + 2.2) * len(columns), 1.0 + 3.6 * len(targets))
    drawn = figure(figsize=size, layout="constrained")
    grid = drawn.subplots(len(targets), len(columns), squeeze=False)
    for row, target in zip(grid, targets, strict=True):
        for axes, (name, points) in zip(row, columns.items(), strict=True):
            _draw(axes, {cell: value for cell, value in points.items() if cell.target == target})
            axes.set(title=f"{name}\ntarget {100 * target:.5g} %", xlabel="a_min", ylabel="a_max")
    drawn.suptitle(title)
    with workspace(path.parent) as folder:
        drawn.savefig(folder / path.name, dpi=150)
        os.replace(folder / path.name, path)


def _draw(axes: Any, points: Points) -> None:
    across, down = _axis(points, "a_min"), _axis(points, "a_max")
    if max(len(across), len(down)) > MOST_VALUES or len(points) <= len(across) == len(down) > 3:
        x, y = [cell.a_min for cell in points], [cell.a_max for cell in points]
        shown = axes.scatter(x, y, c=list(points.values()), cmap="RdYlGn", edgecolors="gray")
        axes.set(xscale="log", yscale="log")
        axes.figure.colorbar(shown, ax=axes)
        return
    values = np.full((len(down), len(across)), np.nan)
    for i, a_max in enumerate(down):
        for j, a_min in enumerate(across):
            found = [value for cell, value in points.items() if (cell.a_min, cell.a_max) == (a_min, a_max)]
            values[i, j] = fmean(found) if found else np.nan
    axes.imshow(values, cmap="RdYlGn", aspect="auto", alpha=0.6)  # pale, so that black numbers are read
    axes.set_xticks(range(len(across)), [f"{value:.0e}" for value in across])
    axes.set_yticks(range(len(down)), [f"{value:.0e}" for value in down])
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8)


def _axis(points: Points, name: str) -> Sequence[float]:
    """Return the values of a bound, as the paper orders them: ``a_min`` falls from left to right."""
    return sorted({getattr(cell, name) for cell in points}, reverse=name == "a_min")
