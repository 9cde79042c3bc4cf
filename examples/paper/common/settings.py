"""The settings of the experiments: every method at every target, or SWD over a grid of its bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product

from common.options import Options
from common.recipes import RECIPES
from common.rows import Setting

BOUNDED = ("swd", "swd-proximal", "uniform_decay")
"""Methods whose coefficient grows between two bounds."""
APPLIES = {"magnitude": "weights", "slimming": "channels", "thin": "channels"}
"""Methods for one structure only; the paper prunes channels as Liu et al. do, single weights as Han et al. do."""
DENSE = "dense"


def base(experiment: str, network: str, dataset: str, structure: str, options: Options, width: int | None) -> Setting:
    """Return the setting of the dense network, from which the others are made."""
    recipe = RECIPES[dataset]
    return Setting(
        experiment, network, dataset, DENSE, structure, 0.0, 0, options.epochs or recipe.epochs, width,
        options.subset, options.batch or recipe.batch,
    )  # fmt: skip


def points(
    dense: Setting, options: Options, methods: Iterable[str], targets: Sequence[float],
    bounds: Callable[[Setting], tuple[float, float]],
) -> list[Setting]:  # fmt: skip
    """Return the dense network and every method at every target, seed by seed; ``--methods`` and ``--targets`` rule."""
    wanted = [m for m in options.methods or (DENSE, *methods) if APPLIES.get(m, dense.structure) == dense.structure]
    found = []
    for seed in range(options.seeds):
        start = replace(dense, seed=seed)
        found += [start] if DENSE in wanted else []
        for target, method in product(options.targets or targets, [m for m in wanted if m != DENSE]):
            a_min, a_max = bounds(start) if method in BOUNDED else (None, None)
            found.append(replace(start, method=method, target=target, a_min=a_min, a_max=a_max))
    return found


def grid(
    dense: Setting, options: Options, targets: Sequence[float], a_min: Sequence[float], a_max: Sequence[float]
) -> list[Setting]:
    """Return SWD at every target over all bounds, and beside it with the bounds that it finds by itself."""
    found = []
    methods = options.methods or ("swd", "swd-auto")
    for seed, target in product(range(options.seeds), options.targets or targets):
        at = replace(dense, target=target, seed=seed)
        for method in methods:
            pairs = product(a_max, a_min) if method in BOUNDED else [(None, None)]
            found += [replace(at, method=method, a_min=low, a_max=high) for high, low in pairs]
    return found
