"""Table 3 on a short course: fewer epochs at a one-cycle rate, with bounds that pull as much as the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch

import numpy as np

from common.options import Options
from common.recipes import RECIPES
from common.rows import Setting
from common.settings import DENSE, base, points
from common.tradeoff import bounds
from common.training import RATES, Rate

FILE = "short.json"
EPOCHS, WIDTH, SEEDS = 30, 16, 2
IMAGES = 50_000
METHODS = {
    "weights": ("magnitude", "lr_rewinding", "swd", "swd-auto"),
    "channels": ("slimming", "lr_rewinding", "swd", "swd-auto", "thin"),
}
TARGETS = {"weights": (0.98, 0.9, 0.95, 0.99, 0.995), "channels": (0.9, 0.5, 0.75, 0.95)}
HEADLINES = {
    ("weights", 0.98): ("magnitude", "swd", "swd-auto"),
    ("channels", 0.9): ("slimming", "swd", "swd-auto"),
}
"""What is trained first, after the dense network."""


def settings_of(options: Options, structures: Sequence[str], only: Sequence[str]) -> list[Setting]:
    """Return the settings, headlines of all seeds first; ``only`` keeps the cells that match one of its patterns.

    A cell is called ``structure/percent/method/seed``, such as ``weights/98/swd/0``.
    """
    found: list[Setting] = []
    for structure in structures:
        dense = base("short", "resnet20", "cifar10", structure, options, options.width or WIDTH)
        dense = replace(dense, epochs=options.epochs or EPOCHS, rate="one-cycle", held=True)
        found += points(dense, options, METHODS[structure], TARGETS[structure], scaled)
    kept = [each for each in found if not only or any(fnmatch(cell(each), pattern) for pattern in only)]
    if not kept:
        raise ValueError(f"expected cells such as {cell(found[-1])}, got none for {' '.join(only)}")
    return sorted(kept, key=lambda each: (_rank(each), each.seed))


def cell(setting: Setting) -> str:
    """Return the name of a cell."""
    return f"{setting.structure}/{100 * setting.target:g}/{setting.method}/{setting.seed}"


def _rank(setting: Setting) -> int:
    if setting.method == DENSE:
        return 0
    return 1 if setting.method in HEADLINES.get((setting.structure, setting.target), ()) else 2


def scaled(setting: Setting) -> tuple[float, float]:
    """Return the paper's bounds times one factor, with which the sum of ``lr a mu`` over the course is the paper's.

    SWD holds ``lr a mu`` at 1, so that near the end less may act than is asked for.
    """
    recipe, (low, high) = RECIPES[setting.dataset], bounds(setting)
    steps = setting.epochs * -(-(setting.subset or IMAGES) // (setting.batch or 1))
    rate = RATES[setting.rate or "thirds"](recipe.rate(0.0))
    paper = pull(recipe.rate, low, high, recipe.epochs * -(-IMAGES // (recipe.batch or 1)))
    factor = paper / pull(rate, low, high, steps)
    return float(f"{factor * low:.4g}"), float(f"{factor * high:.4g}")


def pull(rate: Rate, low: float, high: float, steps: int) -> float:
    """Return the sum of ``lr a`` over a course in which ``a`` grows from ``low`` to ``high`` (eq. 3)."""
    a = low * (high / low) ** (np.arange(steps) / steps)
    return float(a @ np.array([rate(step / steps) for step in range(steps)]))
