"""What is run in each cell: a function in a file of the user's, or a training that swdc brings."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from swdc.cli.sweep.cells import Cell
from swdc.cli.terminal.files import function_in_file
from swdc.errors import CommandError

ACCURACY = "accuracy"
VALUE = "value"
"""The name of a result that is a single number."""
Results = dict[str, float]


def resnet20(a_min: float, a_max: float, target: float, seed: int, epochs: int | None = None) -> Results:
    """Train ResNet-20 of width 16 on scikit-learn's digits; return accuracies (in percent) and costs."""
    return _scene("resnet20", a_min, a_max, target, seed, epochs)


def gcn(a_min: float, a_max: float, target: float, seed: int, epochs: int | None = None) -> Results:
    """Train a graph network on the karate club; return accuracies (in percent) and costs."""
    return _scene("gcn", a_min, a_max, target, seed, epochs)


EXPERIMENTS: dict[str, Callable[..., Results]] = {"resnet20": resnet20, "gcn": gcn}
"""The trainings that need no file."""


def _scene(name: str, a_min: float, a_max: float, target: float, seed: int, epochs: int | None) -> Results:
    from swdc.cli.demo.run import train
    from swdc.cli.demo.tasks import scene
    from swdc.costs.clock import one_thread
    from swdc.costs.count import totals
    from swdc.rewriting.rewrites import mask, slim

    with one_thread():
        act = scene(name, seed)
        act.target = target
        swd = train(act, epochs or act.epochs, seed, lambda text, done, total: None, bounds=(a_min, a_max))
        program = act.program.eval()
        plan = swd.plan()
        before, after = 100 * act.accuracy(program), 100 * act.accuracy(mask(program, plan))
        left = totals(slim(program, plan))
    costs = {name: float(left[name]) for name in ("parameters", "macs")}
    return {ACCURACY: after, "accuracy_before": before, "change": after - before, **costs}


@dataclass(frozen=True)
class Experiment:
    """What is run in each cell, and which of its numbers counts.

    ``name`` is one of ``EXPERIMENTS``, or ``file.py:function``, whose function is called with ``a_min``, ``a_max``,
    ``target`` and ``seed``, and with ``arguments``. It returns a number, or numbers by name. ``metric`` says which of
    these counts: ``accuracy``, or the only one, unless given.
    """

    name: str
    metric: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def function(self) -> Callable[..., Any]:
        """Return the function; ``CommandError`` if there is none, or it does not take the arguments."""
        expected = f"an experiment of {', '.join(EXPERIMENTS)} or file.py:function"
        found = EXPERIMENTS.get(self.name) or function_in_file(self.name, expected)
        try:
            inspect.signature(found).bind(a_min=1.0, a_max=1.0, target=0.5, seed=0, **self.arguments)
        except TypeError as error:
            given = "".join(f", {name}=" for name in self.arguments)
            raise CommandError(
                f"expected {self.name} to take a_min=, a_max=, target=, seed={given}, but it does not: {error}"
            ) from error
        return found

    def elsewhere(self) -> Experiment:
        """Return the experiment with the whole path of its file, for processes in other folders."""
        return self if self.name in EXPERIMENTS else replace(self, name=str(Path(self.name).absolute()))

    def results(self, function: Callable[..., Any], cell: Cell) -> Results:
        """Return what the function returns for a cell, as numbers by name.

        Raises ``CommandError`` for anything else, and for a metric that is missing or not a finite number.
        """
        returned = function(**cell.params(), **self.arguments)
        numbers = returned if isinstance(returned, Mapping) else {self.metric or VALUE: returned}
        try:
            results = {str(name): float(number) for name, number in numbers.items()}
        except (TypeError, ValueError) as error:
            raise CommandError(
                f"expected {self.name} to return a number or numbers by name, got {returned!r}"
            ) from error
        self.value(results)
        return results

    def value(self, results: Mapping[str, float]) -> float:
        """Return the number that counts; ``CommandError`` if it is missing or not finite."""
        metric = self.metric_of(results)
        if metric not in results:
            raise CommandError(
                f"expected {self.name} to return {metric!r}, got {sorted(results)}; say which counts with --metric"
            )
        if not math.isfinite(results[metric]):
            raise CommandError(f"expected {self.name} to return a finite {metric}, got {results[metric]}")
        return results[metric]

    def metric_of(self, results: Mapping[str, float]) -> str:
        """Return the name of the number that counts."""
        return self.metric or (next(iter(results)) if len(results) == 1 else ACCURACY)
