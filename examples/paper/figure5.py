"""Figure 5: a graph network of 16 hidden units on Cora, magnitude pruning and SWD over targets from 50 to 99.9 %."""

from __future__ import annotations

from common.options import Options, options_of, parser
from common.pictures import curve, draw_curves
from common.rows import Row
from common.running import guarded, run
from common.settings import DENSE, base, points

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
METHODS = {"magnitude": "Magnitude pruning", "swd": "SWD", "swd-auto": 'SWD, a = "auto"'}
BOUNDS = (1e-1, 1e6)


def picture(rows: list[Row], options: Options, dataset: str) -> None:
    """Draw the figure."""
    methods = dict.fromkeys(row["method"] for row in rows if row["method"] != DENSE)
    lines = {METHODS.get(m, m): curve([row for row in rows if row["method"] == m]) for m in methods}
    dense = curve([row for row in rows if row["method"] == DENSE])
    title = f"GCN on {dataset}, mean and deviation of {options.seeds} seeds"
    draw_curves(options.out / "figure5.png", title, {"Unstructured pruning": lines}, dense[0.0][0] if dense else None)


def main() -> None:
    """Train what has no row yet, and draw the figure."""
    made = parser(__doc__, seeds=5)
    made.add_argument("--dataset", choices=["Cora", "Citeseer"], default="Cora", help="the citation graph")
    found = made.parse_args()
    options = options_of(found)
    dense = base("figure5", "gcn", found.dataset, "weights", options, options.width or 16)
    settings = points(dense, options, METHODS, TARGETS, lambda setting: BOUNDS)
    picture(run(settings, options.out / "figure5.json", options), options, found.dataset)


if __name__ == "__main__":
    guarded(main)
