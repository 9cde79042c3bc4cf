"""Runs the settings of an experiment one by one, leaving out those that have a row already."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from common.measuring import measure
from common.methods import course
from common.networks import network_of, task_of, traced
from common.options import Options
from common.recipes import RECIPES, Recipe
from common.rows import Row, Setting, add_row, digest, finished
from common.tasks import Task
from common.training import RATES, DivergenceError, Training
from swdc.errors import SwdcError
from swdc.sparsity.baselines import thin
from swdc.sparsity.method import Method

SECONDS_BETWEEN_LINES = 15.0


def run(settings: Iterable[Setting], file: Path, options: Options) -> list[Row]:
    """Return the rows of all settings, trained where ``file`` has none yet; each is written as it is found."""
    rows, every = [], list(settings)
    for number, setting in enumerate(every, 1):
        row = finished(file, setting)
        if row is None:
            row = _trained(setting, file, options, f"{number} of {len(every)}: {setting}")
        rows.append(row)
    return rows


def guarded(main: Callable[[], None]) -> None:
    """Run a script: an error that users can fix is one line, and an interruption keeps the finished rows."""
    try:
        main()
    except (SwdcError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")


def made_with(options: Options) -> dict[str, object]:
    """Return what a row was made with, and by which command."""
    threads, device = torch.get_num_threads(), options.device
    return {"torch": torch.__version__, "threads": threads, "device": device, "command": options.command}


def _trained(setting: Setting, file: Path, options: Options, title: str) -> Row:
    task = task_of(setting, options.data, options.device)
    recipe = RECIPES[setting.dataset].scaled(setting.epochs)
    if setting.rate is not None:
        recipe = replace(recipe, rate=RATES[setting.rate](recipe.rate(0.0)))
    training = training_of(setting, recipe, task, file.parent / "states", options)
    try:
        seconds = training.run(_Lines(title))
        results = measure(task, training.model, training.method, setting.structure)
    except DivergenceError as error:
        seconds, results = training.seconds, {"accuracy": None, "diverged": str(error)}
    results |= {
        "held_for": held_for(training.method),
        "epochs_trained": training.epoch,
        "seconds": round(seconds, 1),
        **made_with(options),
    }
    row = add_row(file, setting, results)
    training.forget()
    accuracy = "diverged" if row["accuracy"] is None else f"{row['accuracy']:.2f} %"
    print(f"{title}: {accuracy}", file=sys.stderr, flush=True)
    return row


def training_of(setting: Setting, recipe: Recipe, task: Task, states: Path, options: Options) -> Training:
    """Return the training of a setting; what is unfinished of it is kept in the folder ``states``."""
    model = network_of(setting, options.data)
    if setting.structure == "channels" or setting.method == "thin" or setting.network == "resnet50":
        model = traced(setting, model, task.example())
    if setting.method == "thin":
        model = thin(model, setting.target, seed=setting.seed)
    model.to(options.device, memory_format=options.memory_format)
    optimizer = recipe.optimizer(model.parameters())
    way = course(setting, recipe, task.steps)
    method = None
    if way.method is not None:
        steps = way.epochs * task.steps
        method = way.method(model, setting.target, setting.structure, steps=steps, optimizer=optimizer, **way.options)
    shared = None if way.shared is None else states / f"shared-{digest(_common(setting, way.shared))}.pt"
    torch.manual_seed(setting.seed)  # the same batches for every method, whatever its construction has drawn
    return Training(
        task, model, optimizer, method, way.epochs, recipe.epochs, recipe.rate,
        states / f"{digest(asdict(setting))}.pt", shared, way.shared_epochs,
    )  # fmt: skip


def held_for(method: Method | None) -> str | None:
    """Return for which optimizer the pull of SWD was held, "none" if it was not; ``None`` for other methods."""
    return None if method is None else method.state_dict().get("held_for")


def _common(setting: Setting, shared: str) -> dict[str, object]:
    """Return the settings that trainings share if they begin alike."""
    own = ("experiment", "method", "structure", "target", "a_min", "a_max")
    return {**{k: v for k, v in asdict(setting).items() if k not in own}, "shared": shared}


class _Lines:
    """Prints the progress of a training, on stderr and not too often."""

    def __init__(self, title: str) -> None:
        self._title, self._next = title, time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() >= self._next:
            print(f"{self._title}: {text}", file=sys.stderr, flush=True)
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
