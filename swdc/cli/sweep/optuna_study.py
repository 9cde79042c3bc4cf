"""The study of a sweep: an optuna study in which every cell is a trial, shared by any number of processes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from swdc.artifacts.report.sweep_document import Best
from swdc.cli.sweep.cells import Cell, Space
from swdc.cli.sweep.experiments import Experiment, Results
from swdc.errors import CommandError, brief
from swdc.ir.atomic_files import locked
from swdc.ir.packages import package
from swdc.ir.trial_owners import ALIVE, OWNER, is_gone, owner
from swdc.ir.trial_storage import storage_of

RESULTS, REASON, DESCRIPTION = "results", "reason", "swdc"
"""Names of the attributes of trials, and of the study."""
SAMPLERS = ("grid", "tpe")


@dataclass(frozen=True)
class Row:
    """A cell with its results, or the reason why there are none."""

    cell: Cell
    results: Mapping[str, float]
    reason: str = ""


class Study:
    """The trials of a sweep: ``claim`` takes one, ``finish``, ``fail`` or ``give_up`` ends it.

    ``folder`` is that of the file in which the trials are kept; one process at a time writes there. ``None`` stands
    for a database, which sees to that itself.
    """

    def __init__(
        self, study: Any, space: Space, experiment: Experiment, sampler: str, trials: int, folder: Path | None
    ) -> None:
        self._study, self._experiment, self._folder = study, experiment, folder
        self._cells = dict.fromkeys(space.cells()) if sampler == "grid" else None
        self.total = len(self._cells) if self._cells is not None else trials
        """How many cells the sweep has."""
        self._trial = package("optuna.trial", "sweep")
        self._over = package("optuna.exceptions", "sweep").UpdateFinishedTrialError
        self._states = self._trial.TrialState
        self._distributions = _distributions(space)
        self._claimed: dict[int, Any] = {}
        self._failed: list[Cell] = []

    def claim(self) -> tuple[int, Cell] | None:
        """Take a cell that is neither finished nor under way, and has not failed in this sweep.

        Returns its number and the cell; ``None`` if there is no such cell. If another process is faster, the next
        cell is taken. When no cell is left, those of processes that are gone are taken up.
        """
        with _alone(self._folder):
            while (params := self._next()) is not None or self._freed():
                claimed = None if params is None else self._tried(params)
                if claimed is not None:
                    return claimed
        return None

    def _tried(self, params: dict[str, Any]) -> tuple[int, Cell] | None:
        """Begin a trial, and return it; give it up, and return ``None``, if an earlier one has its cell."""
        trial = self._begun(params)
        cell = Cell.of(trial.params)
        self._claimed[trial.number] = trial
        if not self._is_taken(cell, before=trial.number):
            return trial.number, cell
        self._end(trial.number)
        return None

    def _begun(self, params: dict[str, Any]) -> Any:
        """Return a new trial: of these parameters, or drawn by the sampler if they are empty."""
        attributes = {OWNER: owner(), ALIVE: time.time()}
        if not params:
            trial = self._study.ask(self._distributions)
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            return trial
        # A trial is born under way and with its owner: no other process can take it, or think that it is left.
        state, ranges = self._states.RUNNING, self._distributions
        self._study.add_trial(
            self._trial.create_trial(state=state, params=params, distributions=ranges, user_attrs=attributes)
        )
        born = next(t for t in reversed(self._trials("RUNNING")) if t.user_attrs.get(OWNER) == attributes[OWNER])
        return self._trial.Trial(self._study, born._trial_id)

    def finish(self, number: int, results: Results) -> None:
        """Keep the results of a trial; nothing is kept if another process has taken up its cell."""
        with _alone(self._folder), suppress(self._over):
            trial = self._claimed.pop(number)
            trial.set_user_attr(RESULTS, results)
            self._study.tell(trial, self._experiment.value(results))

    def fail(self, number: int, reason: str) -> None:
        """Keep the reason why a trial has no results; its cell is run again by the next sweep."""
        trial = self._claimed[number]
        self._failed.append(Cell.of(trial.params))
        with _alone(self._folder), suppress(self._over):
            trial.set_user_attr(REASON, reason)
        self.give_up(number)

    def give_up(self, number: int) -> None:
        """End a trial without results; its cell is run again."""
        with _alone(self._folder):
            self._end(number)

    def beat(self) -> None:
        """Say that the trials that were claimed are under way."""
        for trial in list(self._claimed.values()):
            with _alone(self._folder), suppress(self._over):
                trial.set_user_attr(ALIVE, time.time())

    def free_interrupted(self) -> None:
        """End the trials whose process is gone, so that their cells are run again."""
        with _alone(self._folder):
            self._freed()

    def _freed(self) -> bool:
        gone = [trial for trial in self._trials("RUNNING") if is_gone(trial)]
        for trial in gone:
            with suppress(self._over):
                self._study.tell(trial.number, state=self._states.FAIL)
        return bool(gone)

    def _end(self, number: int) -> None:
        with suppress(self._over):
            self._study.tell(self._claimed.pop(number), state=self._states.FAIL)

    def rows(self) -> list[Row]:
        """Return the cells of this sweep that are finished, in order."""
        rows = {cell: Row(cell, trial.user_attrs[RESULTS]) for cell, trial in self._finished()}
        return [rows[cell] for cell in sorted(rows)]

    def failed(self) -> list[Row]:
        """Return the cells of this sweep that failed and were not finished since, with the reason."""
        done = {cell for cell, _ in self._finished()}
        found = [(cell, trial) for cell, trial in self._of("FAIL") if REASON in trial.user_attrs and cell not in done]
        rows = {cell: Row(cell, {}, trial.user_attrs[REASON]) for cell, trial in found}
        return [rows[cell] for cell in sorted(rows)]

    def best(self) -> list[Best]:
        """Return the place with the best number for each target, the mean over its seeds."""
        places: dict[Cell, list[float]] = {}
        for cell, trial in self._finished():
            places.setdefault(replace(cell, seed=0), []).append(trial.value)
        sign = -1 if self._study.direction.name == "MAXIMIZE" else 1
        means = [Best(c.target, c.a_max, c.a_min, fmean(values), len(values)) for c, values in sorted(places.items())]
        targets = dict.fromkeys(mean.target for mean in means)
        return [min((m for m in means if m.target == t), key=lambda m: sign * m.value) for t in targets]

    def done(self) -> int:
        """Return how many cells are finished."""
        return len({cell for cell, _ in self._finished()})

    def _next(self) -> dict[str, Any] | None:
        """Return the parameters of a cell to run; empty if the sampler draws them, ``None`` if no cell is left."""
        taken = self._of("COMPLETE", "RUNNING")
        if self._cells is None:
            return {} if len(taken) + len(self._failed) < self.total else None
        gone = {cell for cell, _ in taken} | {*self._failed}
        return next((cell.params() for cell in self._cells if cell not in gone), None)

    def _is_taken(self, cell: Cell, before: int) -> bool:
        """Whether an earlier trial has this cell; or, if cells are drawn, whether enough were drawn before."""
        earlier = [each for each, trial in self._of("COMPLETE", "RUNNING") if trial.number < before]
        return cell in earlier if self._cells is not None else len(earlier) + len(self._failed) >= self.total

    def _finished(self) -> list[tuple[Cell, Any]]:
        return [(cell, trial) for cell, trial in self._of("COMPLETE") if RESULTS in trial.user_attrs]

    def _of(self, *states: str) -> list[tuple[Cell, Any]]:
        """Return the trials of this sweep, each with its cell; the study may hold those of other values."""
        complete = [trial for trial in self._trials(*states) if set(self._distributions) <= set(trial.params)]
        found = [(Cell.of(trial.params), trial) for trial in complete]
        return [(cell, trial) for cell, trial in found if self._cells is None or cell in self._cells]

    def _trials(self, *states: str) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False, states=[self._states[state] for state in states]))


def open_study(
    storage: str, name: str, space: Space, experiment: Experiment, *, sampler: str = "grid", trials: int = 0,
    minimize: bool = False, seed: int = 0,
) -> Study:  # fmt: skip
    """Open the study of a sweep, or begin it.

    ``storage`` is a file for SQLite, or any URL that optuna takes (``redis://`` as a journal). ``sampler`` is ``grid``
    (every combination of the space's values once) or ``tpe`` (``trials`` cells within the bounds of the space).

    Raises ``CommandError`` if optuna is missing, the storage cannot be opened, or the study was begun with another
    experiment, metric or direction.
    """
    optuna = package("optuna", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if sampler not in SAMPLERS:
        raise CommandError(f"expected a sampler of {', '.join(SAMPLERS)}, got {sampler!r}")
    if sampler == "tpe" and (trials < 1 or len(space.seeds) > 1):
        raise CommandError("expected --trials of at least 1 and one seed for tpe; a grid takes several seeds")
    constant_liar = {"constant_liar": True}  # workers that draw at the same time draw different cells
    samplers = optuna.samplers
    drawn_by = samplers.TPESampler(seed=seed, **constant_liar) if sampler == "tpe" else samplers.RandomSampler(seed)
    direction = "minimize" if minimize else "maximize"
    described = {
        "experiment": experiment.name, "metric": experiment.metric,
        "arguments": json.loads(json.dumps(dict(experiment.arguments), default=str)), "direction": direction,
    }  # fmt: skip
    folder = _folder_of(storage)
    with _alone(folder):
        try:
            study = optuna.create_study(
                storage=storage_of(storage, "sweep"), sampler=drawn_by, study_name=name, direction=direction,
                load_if_exists=True,
            )  # fmt: skip
        except Exception as error:  # of optuna, of SQLAlchemy, or of a database's driver
            raise CommandError(
                f"expected a storage that optuna can open, got {storage!r}, which raises {brief(error)}; name a file, "
                f"or a URL such as sqlite:///sweep.db"
            ) from error
        begun = study.user_attrs.get(DESCRIPTION, described)
        if begun != described or study.direction.name.lower() != direction:
            raise CommandError(
                f"expected the study {name!r} of {storage} with the settings that it was begun with, {begun}, got "
                f"{described}; give another --study or --storage"
            )
        study.set_user_attr(DESCRIPTION, described)
    return Study(study, space, experiment, sampler, trials, folder)


def _folder_of(storage: str) -> Path | None:
    """Return the folder of a file of trials, made if it is missing; ``None`` for a URL."""
    if "://" in storage:
        return None
    path = Path(storage)
    if path.is_dir():
        raise CommandError(f"expected --storage to name a file or a URL, got the folder {storage}; add a file name")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


def _alone(folder: Path | None) -> AbstractContextManager[None]:
    return nullcontext() if folder is None else locked(folder)


def _distributions(space: Space) -> dict[str, Any]:
    distributions = package("optuna.distributions", "sweep")
    real, whole = distributions.FloatDistribution, distributions.IntDistribution
    return {
        "a_min": real(min(space.a_min), max(space.a_min), log=True),
        "a_max": real(min(space.a_max), max(space.a_max), log=True),
        "target": real(min(space.target), max(space.target)),
        "seed": whole(min(space.seeds), max(space.seeds)),
    }
