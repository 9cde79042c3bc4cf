"""Figure 5: a graph network of 16 hidden units on Cora, magnitude pruning and SWD over targets from 50 to 99.9 %."""

from __future__ import annotations

from dataclasses import replace

from common.options import Options, options_of, parser
from common.pictures import curve, draw_curves
from common.recipes import RECIPES
from common.rows import Row, Setting
from common.running import guarded, run

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
METHODS = {"magnitude": "Magnitude pruning", "swd": "SWD", "swd-auto": 'SWD, a = "auto"'}
A_MIN, A_MAX = 1e-1, 1e6


def settings(options: Options, dataset: str) -> list[Setting]:
    """Return the settings: the dense network, and every method at every target, seed by seed."""
    epochs = options.epochs or RECIPES[dataset].epochs
    base = Setting("figure5", "gcn", dataset, "dense", "weights", 0.0, 0, epochs, width=options.width or 16)
    found = []
    for seed in range(options.seeds):
        found.append(replace(base, seed=seed))
        for target in options.targets or TARGETS:
            for method in options.methods or METHODS:
                bounds = {"a_min": A_MIN, "a_max": A_MAX} if method in ("swd", "swd-proximal", "uniform_decay") else {}
                found.append(replace(base, method=method, target=target, seed=seed, **bounds))
    return found


def picture(rows: list[Row], options: Options, dataset: str) -> None:
    """Draw the figure."""
    methods = dict.fromkeys(row["method"] for row in rows if row["method"] != "dense")
    lines = {METHODS.get(m, m): curve([row for row in rows if row["method"] == m]) for m in methods}
    (dense, _, seeds), *_ = curve([row for row in rows if row["method"] == "dense"]).values()
    title = f"GCN on {dataset}, mean and deviation of {seeds} seeds"
    draw_curves(options.out / "figure5.png", title, {"Unstructured pruning": lines}, dense)


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    made = parser(__doc__, seeds=5)
    made.add_argument("--dataset", choices=["Cora", "Citeseer"], default="Cora", help="the citation graph")
    found = made.parse_args()
    options = options_of(found)
    picture(run(settings(options, found.dataset), options.out / "figure5.json", options), options, found.dataset)


if __name__ == "__main__":
    guarded(main)
