"""The trials of a compression in an optuna study, which any number of processes share."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swdc.artifacts.compression.trials import Trial, best_of, next_share
from swdc.errors import PlanError, SwdcError, brief
from swdc.ir.atomic_files import locked
from swdc.ir.packages import package
from swdc.ir.trial_owners import ALIVE, OWNER, is_gone, owner
from swdc.ir.trial_storage import storage_of

EXTRA = "compress"
SHARE, TRIAL = "share", "trial"
"""Names of the parameter of a trial, and of the attribute that holds what came out."""


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs: its number in the study, its share, and the trial whose network it cuts."""

    number: int
    share: float
    base: Trial | None


class Study:
    """``claim`` takes a trial, ``finish`` or ``give_up`` ends it. ``folder`` is locked while the study is written.

    In optuna's words, a trial that is good enough is complete, with the share that stays as its value, and one that
    fell too far is pruned.
    """

    def __init__(self, storage: str | None, folder: Path, name: str) -> None:
        """Open the study of a name, or begin it; ``PlanError`` if the storage cannot be opened."""
        optuna = package("optuna", EXTRA)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder = folder
        self._trial, self._states = package("optuna.trial", EXTRA), package("optuna.trial", EXTRA).TrialState
        self._over = package("optuna.exceptions", EXTRA).UpdateFinishedTrialError
        self._range = {SHARE: optuna.distributions.FloatDistribution(0.0, 1.0)}
        self._claimed: dict[int, Any] = {}
        place = str(folder / "trials.db") if storage is None else storage
        with locked(folder):
            try:
                self._study = optuna.create_study(
                    storage=storage_of(place, EXTRA), study_name=name, direction="minimize", load_if_exists=True
                )
            except SwdcError:
                raise
            except Exception as error:  # of optuna, of SQLAlchemy, or of a database's driver
                raise PlanError(
                    f"expected a storage that optuna can open, got {place!r}, which raises {brief(error)}; give a URL "
                    f"such as sqlite:///trials.db, or another folder"
                ) from error

    def trials(self) -> list[Trial]:
        """Return the trials that are finished, in the order in which they ended."""
        found = sorted(self._in("COMPLETE", "PRUNED"), key=lambda trial: (trial.datetime_complete, trial.number))
        return [Trial(**json.loads(trial.user_attrs[TRIAL])) for trial in found]

    def claim(self, most: int) -> Claim | None:
        """Take a trial; ``None`` if ``most`` are finished or under way. Those of processes that are gone are ended."""
        with locked(self._folder):
            for trial in filter(is_gone, self._in("RUNNING")):
                with suppress(self._over):
                    self._study.tell(trial.number, state=self._states.FAIL)
            trials, running = self.trials(), self._in("RUNNING")
            if len(trials) + len(running) >= most:
                return None
            share = next_share(trials, [trial.params[SHARE] for trial in running])
            return Claim(self._begun(share), share, best_of(trials))

    def is_running(self) -> bool:
        """Whether a trial is under way, in any process."""
        return bool(self._in("RUNNING"))

    def finish(self, number: int, trial: Trial) -> None:
        """Keep what came out of a trial; nothing is kept if another process has taken it up."""
        with locked(self._folder), suppress(self._over):
            claimed = self._claimed.pop(number)
            claimed.set_user_attr(TRIAL, json.dumps(trial.to_dict()))
            if trial.good:
                assert trial.removed is not None
                self._study.tell(claimed, 1 - trial.removed)
            else:
                self._study.tell(claimed, state=self._states.PRUNED)

    def give_up(self) -> None:
        """End the trials of this process that are not finished; they are run again."""
        with locked(self._folder), suppress(self._over):
            while self._claimed:
                self._study.tell(self._claimed.popitem()[1], state=self._states.FAIL)

    def beat(self) -> None:
        """Say that the trials of this process are under way."""
        for trial in list(self._claimed.values()):
            with locked(self._folder), suppress(self._over):
                trial.set_user_attr(ALIVE, time.time())

    def _begun(self, share: float) -> int:
        """Begin a trial, which is born under way and with its owner: no other process can think that it is left."""
        attributes = {OWNER: owner(), ALIVE: time.time()}
        self._study.add_trial(
            self._trial.create_trial(
                state=self._states.RUNNING, params={SHARE: share}, distributions=self._range, user_attrs=attributes
            )
        )
        born = next(t for t in reversed(self._in("RUNNING")) if t.user_attrs.get(OWNER) == attributes[OWNER])
        self._claimed[born.number] = self._trial.Trial(self._study, born._trial_id)
        return int(born.number)

    def _in(self, *states: str) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False, states=[self._states[state] for state in states]))
