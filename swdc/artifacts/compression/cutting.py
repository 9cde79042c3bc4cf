"""One trial: plans from what the network is sensitive to, a certified cut, and recovery."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swdc.artifacts.compression.settings import Settings
from swdc.artifacts.compression.trials import Trial
from swdc.artifacts.folder.save import load, save
from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.atomic_files import write_whole
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.rewrites import mask, slim
from swdc.rewriting.verify import verify
from swdc.sparsity.calibration.calibrate import calibrate
from swdc.sparsity.calibration.refit import refit
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.metrics import measured
from swdc.sparsity.planning.criteria import reads_statistics
from swdc.sparsity.planning.plan import costs_of, plan
from swdc.sparsity.planning.sensitivity import Sensitivity, sensitivity
from swdc.sparsity.recovery.recover import recover

EXPONENTS = (0.0, 0.5)
"""How much sensitivities count in the plans of a trial: not at all, and much."""
AT_MOST = 0.75
"""The largest share of its channels that a group loses in one cut: beyond it no sensitivity is measured."""
TRIALS, NETWORK, CUT, RECOVERY = "trials", "network", "cut.json", "recovery"
ROUNDING = 1e-9
"""A metric that falls by this much more than asked is a rounding error."""

Show = Callable[[str], None]


@dataclass(frozen=True)
class Cut:
    """What a good trial removed: its plan, which is one of the network before, and the certificate of the cut."""

    trial: Trial
    plan: Plan
    certificate: Certificate

    def to_dict(self) -> dict[str, Any]:
        """Return the cut as plain data, ready for JSON."""
        certificate = self.certificate.to_dict()
        return {"trial": self.trial.to_dict(), "plan": self.plan.to_dict(), "certificate": certificate}


class Cutter:
    """Runs trials. Networks, plans and certificates are kept in a folder for each trial."""

    def __init__(
        self, dense: Program, settings: Settings, folder: Path, table: LatencyTable | None, show: Show
    ) -> None:
        self._dense, self._settings, self._folder, self._table, self._show = dense, settings, folder, table, show
        self._cost = self.cost(dense)
        statistics = self._statistics(dense)
        self._plan(dense, 0.0, None, 0.0, statistics)  # tells now if the settings give no plan
        self.sensitivity = self._sensitivity(dense, folder, statistics)
        """The sensitivity of the dense program."""

    def cost(self, program: Program) -> float:
        """Return what the budget counts of a program."""
        least = np.ones(len(program.groups), dtype=np.int64)
        return float(costs_of(program, self._settings.budget, least, self._table).full)

    def network(self, trial: Trial | None) -> Program:
        """Return the network that came out of a good trial; ``None`` stands for the dense program."""
        if trial is None:
            return self._dense
        device = next(self._dense.parameters()).device
        return load(self._place(trial) / NETWORK).to(device)

    def cut_of(self, trial: Trial) -> Cut:
        """Return what a good trial removed."""
        data = json.loads((self._place(trial) / CUT).read_text(encoding="utf-8"))
        return Cut(trial, Plan.from_dict(data["plan"]), Certificate.from_dict(data["certificate"]))

    def run(self, share: float, base: Trial | None) -> Trial:
        """Cut a network further, so that ``share`` of the dense program's cost is gone, and recover it.

        Of the plans with and without sensitivities, the one is taken whose network is better after an epoch.
        """
        settings, before = self._settings, self.network(base)
        trial = Trial(share, 0.0 if base is None else base.share)
        statistics = self._statistics(before)
        found = self._sensitivity(before, self._place(base), statistics)
        sparsity = 1 - (1 - share) * self._cost / self.cost(before)
        plans: dict[float, Plan] = {}
        for exponent in EXPONENTS:
            try:
                made = self._plan(before, sparsity, found, exponent, statistics)
            except PlanError as error:
                return Trial(share, trial.base, reason=str(error))
            if made.kept not in [other.kept for other in plans.values()]:
                plans[exponent] = made
        self._show("comparing plans")
        scores = {exponent: self._first_look(before, each, len(plans)) for exponent, each in plans.items()}
        exponent = max(scores, key=lambda each: scores[each])
        chosen = plans[exponent]
        cut, masked = slim(before, chosen), mask(before, chosen)
        self._show("verifying")
        certificate = verify(masked, cut, seed=settings.seed)
        if not certificate.exact:
            return Trial(share, trial.base, exponent, reason=f"not exact: {str(certificate).splitlines()[1].strip()}")
        recovered, place = self._recovered(before, cut, masked, self._place(trial)), self._place(trial)
        metric = measured(settings.metric, recovered, settings.seed)
        trial = Trial(
            share, trial.base, exponent, 1 - self.cost(recovered) / self._cost,
            measured(settings.metric, cut, settings.seed), metric, self._is_good(metric),
        )  # fmt: skip
        if trial.good:
            save(recovered, place / NETWORK)
            write_whole(place / CUT, json.dumps(Cut(trial, chosen, certificate).to_dict()) + "\n")
        return trial

    def _is_good(self, metric: float) -> bool:
        return self.sensitivity.metric - metric <= self._settings.most_drop + ROUNDING

    def _place(self, trial: Trial | None) -> Path:
        if trial is None:
            return self._folder
        return self._folder / TRIALS / f"{trial.share:.6f}-after-{trial.base:.6f}"

    def _statistics(self, program: Program) -> Calibration | None:
        """Return the statistics that the criterion reads, if it reads any."""
        settings = self._settings
        if not reads_statistics(settings.criterion):
            return None
        self._show("calibrating")
        with torch.random.fork_rng(devices=[]):
            seed_all(settings.seed)
            return calibrate(program, settings.data, settings.inputs, settings.loss, progress=False)

    def _sensitivity(self, program: Program, place: Path, statistics: Calibration | None) -> Sensitivity:
        settings = self._settings
        self._show("measuring sensitivities")
        return sensitivity(
            program, settings.metric, budget=settings.budget, criterion=settings.criterion, ignore=settings.ignore,
            statistics=statistics, table=self._table, folder=place, seed=settings.seed, progress=False,
        )  # fmt: skip

    def _plan(
        self, program: Program, sparsity: float, found: Sensitivity | None, exponent: float,
        statistics: Calibration | None,
    ) -> Plan:  # fmt: skip
        settings = self._settings
        criterion = settings.criterion if found is None else found.criterion(settings.criterion, exponent)
        return plan(
            program, sparsity, settings.budget, criterion, round_to=settings.round_to, at_most=AT_MOST,
            ignore=settings.ignore, table=self._table, statistics=statistics, seed=settings.seed,
        )  # fmt: skip

    def _first_look(self, before: Program, chosen: Plan, plans: int) -> float:
        """Return the metric after a short recovery; there is nothing to compare if there is one plan only."""
        if plans == 1:
            return 0.0
        cut, masked = slim(before, chosen), mask(before, chosen)
        recovered = self._recovered(before, cut, masked, None)
        return measured(self._settings.metric, recovered, self._settings.seed)

    def _recovered(self, before: Program, cut: Program, masked: Program, place: Path | None) -> Program:
        """Return a slim program after recovery: one epoch without a place to keep its state in."""
        settings = self._settings
        if not settings.epochs:
            return self._solved(before, cut, masked)
        epochs = settings.epochs if place is not None else 1
        return recover(
            cut, self._dense, settings.data, epochs, inputs=settings.inputs, loss=settings.loss, features=0.0,
            rate=settings.rate, metric=settings.metric, folder=None if place is None else place / RECOVERY,
            report=lambda epoch: self._show(f"recovering, epoch {epoch.epoch} of {epochs}"), seed=settings.seed,
            progress=False,
        )  # fmt: skip

    def _solved(self, before: Program, cut: Program, masked: Program) -> Program:
        """Return a slim program whose layers are solved again, without training."""
        settings = self._settings
        self._show("solving layers again")
        with torch.random.fork_rng(devices=[]):
            seed_all(settings.seed)
            moments = calibrate(before, settings.data, settings.inputs, moments=True, progress=False)
            return refit(cut, masked, moments, settings.data, settings.inputs, progress=False).eval()
