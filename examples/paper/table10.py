"""Table 10: seconds per epoch, with its test, without SWD, with unstructured and with structured SWD."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import fmean

from common.networks import task_of
from common.options import Options, options_of, parser
from common.recipes import RECIPES
from common.rows import Row, Setting, add_row, finished
from common.running import guarded, made_with, training_of
from common.settings import base
from common.tasks import evaluate
from common.tradeoff import bounds

NETWORKS = {"resnet20": ("cifar10", 50), "resnet50": ("imagenet", 5)}
"""The data set of each network, and over how many epochs the paper takes the mean."""
KINDS = {"None": ("dense", "weights"), "Unstructured": ("swd", "weights"), "Structured": ("swd", "channels")}
TARGET = 0.9


def timed(settings: list[Setting], options: Options) -> list[float]:
    """Return the seconds per epoch of trainings that take turns, epoch by epoch, so that a slow hour affects all."""
    task = task_of(settings[0], options.data, options.device)
    states = options.out / "states"
    trainings = [training_of(setting, RECIPES[setting.dataset], task, states, options) for setting in settings]
    seconds: list[list[float]] = [[] for _ in trainings]
    for _ in range(settings[0].epochs):
        for training, spent in zip(trainings, seconds, strict=True):
            start = time.perf_counter()
            training.one_epoch()
            evaluate(task, training.model)
            spent.append(time.perf_counter() - start)
    return [fmean(spent) for spent in seconds]


def table10(network: str, options: Options) -> list[Row]:
    """Return the rows of a network, measured where there are none yet."""
    dataset, epochs = NETWORKS[network]
    file = options.out / "table10.json"
    width = options.width or 64 if network == "resnet20" else None
    dense = replace(base("table10", network, dataset, "weights", options, width), epochs=options.epochs or epochs)
    settings = [dense]
    for method, structure in list(KINDS.values())[1:]:
        at = replace(dense, method=method, structure=structure, target=TARGET)
        a_min, a_max = bounds(at)
        settings.append(replace(at, a_min=a_min, a_max=a_max))
    rows = [row for setting in settings if (row := finished(file, setting)) is not None]
    if len(rows) < len(settings):
        means = timed(settings, options)
        rows = [
            add_row(
                file, each, {"seconds_per_epoch": mean, "increase": 100 * (mean / means[0] - 1), **made_with(options)}
            )
            for each, mean in zip(settings, means, strict=True)
        ]
    return rows


def main() -> None:
    """Measure what has no row yet, and print the table."""
    made = parser(__doc__)
    made.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="time these only")
    found = made.parse_args()
    options = options_of(found)
    for network in found.networks:
        for kind, row in zip(KINDS, table10(network, options), strict=True):
            print(f"{network:9} {kind:13} {row['seconds_per_epoch']:.1f} s per epoch, {row['increase']:+.1f} %")


if __name__ == "__main__":
    guarded(main)
