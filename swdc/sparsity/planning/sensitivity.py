"""How much a metric falls if channels of one group are removed, measured group by group."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.atomic_files import write_whole, writing
from swdc.ir.content_hash import content_hash
from swdc.ir.data_forms import check_form
from swdc.ir.groups import ChannelGroup
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.rewriting.rewrites import mask
from swdc.sparsity.arguments import check_count
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.fingerprints import check_settings, of_code, of_function
from swdc.sparsity.metrics import Metric, measured
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.planning.criteria import CRITERIA, Criterion, Scores, find_criterion
from swdc.sparsity.planning.latency import LATENCY
from swdc.sparsity.planning.plan import BUDGET_NAMES, costs_of, ignored_groups, plan, scored

NAME = "sensitivity.json"
LEAST = 0.05
"""Smaller falls than this part of the largest are taken for it: few samples do not tell them from nothing."""


@dataclass(frozen=True)
class GroupSensitivity:
    """By how much the metric falls for each share of a group's channels, and which part of the budget each saves."""

    falls: tuple[float, ...]
    saved: tuple[float, ...]


@dataclass(frozen=True)
class Sensitivity:
    """The metric of a whole program, and how it falls for each group if shares of its channels are removed."""

    metric: float
    budget: str
    shares: tuple[float, ...]
    groups: Mapping[str, GroupSensitivity]

    def weights(self, exponent: float = 0.5) -> dict[str, float]:
        """Return what the scores of each group are multiplied by, as ``criterion`` says."""
        falls = {name: float(np.mean(np.maximum(group.falls, 0.0))) for name, group in self.groups.items()}
        least = LEAST * max(falls.values(), default=0.0)
        if not least:
            return dict.fromkeys(falls, 1.0)
        logs = {name: float(np.log(max(fall, least))) for name, fall in falls.items()}
        if self.budget != LATENCY:  # such a plan weighs scores against time by itself
            tiny = np.finfo(np.float64).tiny
            logs = {
                name: log - float(np.log(max(np.mean(self.groups[name].saved), tiny))) for name, log in logs.items()
            }
        middle = float(np.mean(list(logs.values())))
        return {name: float(np.exp(exponent * (log - middle))) for name, log in logs.items()}

    @checked(PlanError)
    def criterion(self, criterion: str | Criterion = "l2", exponent: float = 0.5) -> Criterion:
        """Return a criterion for ``swdc.plan`` that spares the groups that cost much metric for what they save.

        The scores of ``criterion`` are multiplied by a weight for each group: the mean fall of the metric over the mean
        part of the budget that is saved, raised to ``exponent``. 0 leaves the scores as they are. Weights are
        divided by their geometric mean; groups that were not measured have the weight 1.
        """
        inner, weights = find_criterion(criterion), self.weights(exponent)
        name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "function")

        def spared(program: Program, groups: Sequence[ChannelGroup], *given: Any, **asked: Any) -> Scores:
            scores = inner(program, groups, *given, **asked)
            pairs = zip(scores, groups, strict=True)
            return [None if s is None else np.asarray(s) * weights.get(group.name, 1.0) for s, group in pairs]

        spared.__name__ = f"{name} x sensitivity^{exponent:g}"
        spared.__wrapped__ = inner  # type: ignore[attr-defined]  # its signature says what it asks for
        return spared

    def to_dict(self) -> dict[str, Any]:
        """Return the sensitivity as plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    @checked(PlanError)
    def from_dict(cls, data: Mapping[str, Any]) -> Sensitivity:
        """Return the sensitivity that ``to_dict`` wrote. Raises ``PlanError`` for data of any other form."""
        try:
            check_form(data, cls)
        except ValueError as error:
            raise PlanError(f"expected a sensitivity as to_dict returns it, got one in which {error}") from error
        groups = {name: _group(each) for name, each in data["groups"].items()}
        return cls(data["metric"], data["budget"], tuple(data["shares"]), groups)

    def __str__(self) -> str:
        shares = " ".join(f"{share:>7.0%}" for share in self.shares)
        width = max((len(name) for name in self.groups), default=0)
        lines = [
            f"metric {self.metric:.4g}; it falls if this share of a group's channels goes:",
            f"{'':{width}} {shares}",
        ]
        lines += [f"{n:{width}} " + " ".join(f"{fall:7.3f}" for fall in g.falls) for n, g in self.groups.items()]
        return "\n".join(lines)


@checked(PlanError)
def sensitivity(
    program: Program,
    metric: Metric,
    *,
    budget: str = "parameters",
    criterion: str | Criterion = "l2",
    shares: Iterable[float] = (0.25, 0.5, 0.75),
    ignore: str | Iterable[str] = (),
    statistics: Calibration | None = None,
    table: LatencyTable | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Sensitivity:
    """Mask some channels of one group at a time, and measure by how much a metric falls.

    ``metric`` takes a program in evaluation and returns a number, higher if better. It is called once for the whole
    program, and once for each of ``shares`` of each group of more than one channel, always under the same ``seed`` of
    torch. The channels that go are those that score least by ``criterion``, which may need ``statistics``, as in
    ``swdc.plan``. ``budget`` says what is saved by a removal, and ``table`` gives times if it is ``latency``.
    ``ignore`` names modules or tensors whose channels all stay; their groups are not measured.
    In ``folder`` what was measured is kept after each group, so that a run that was killed goes on.

    A plan that spares what the metric is sensitive to::

        found = swdc.sensitivity(program, lambda model: -float(model(x).square().mean()))
        plan = swdc.plan(program, 0.5, criterion=found.criterion("l2"))

    Nothing is trained, and the program is not changed. Raises ``PlanError`` for arguments out of range, for a metric
    that returns no number, and for a folder that holds the sensitivity of another program or with other settings.
    """
    need_values(program, PlanError, "a sensitivity")
    check_count("seed", seed, least=0)
    chosen = tuple(shares)
    if not chosen or not all(0 < share < 1 for share in chosen):
        raise PlanError(f"expected shares between 0 and 1, got {list(chosen)}; 0.5 removes half of the channels")
    if budget not in BUDGET_NAMES:
        raise PlanError(f"expected a budget of {list(BUDGET_NAMES)}, got {budget!r}")
    if folder is not None and Path(folder) == Path():
        raise PlanError("expected a folder to keep what is measured in, got an empty path; give one, or None")
    if statistics is not None:
        statistics.check(program)
    still = ignored_groups(program, (ignore,) if isinstance(ignore, str) else tuple(ignore))
    scores = scored(program, program.groups, criterion, still, None, statistics, seed)
    by_name = {group.name: found for group, found in zip(program.groups, scores, strict=True)}
    costs = costs_of(program, budget, np.ones(len(program.groups), dtype=np.int64), table)
    saved = (
        None if folder is None else _Saved(Path(folder), _settings(program, metric, budget, criterion, chosen, seed))
    )
    found = {} if saved is None else saved.load()

    def known(_: Program, groups: Sequence[ChannelGroup]) -> Scores:
        return [by_name[group.name] for group in groups]

    with progress_bar(hidden=not progress) as bar:
        bar.show("measuring the whole program")
        whole = found["metric"] if "metric" in found else measured(metric, program, seed)
        groups = {name: _group(each) for name, each in found.get("groups", {}).items()}
        widths = {group.name: group.width for group in program.groups}
        names = [name for name, each in by_name.items() if each is not None and widths[name] > 1]
        for number, name in enumerate(names):
            bar.show(f"measuring the sensitivity of {name}", number, len(names))
            if name in groups:
                continue
            most = 1 - 1 / widths[name]  # a channel stays
            plans = [plan(program, {name: min(share, most)}, criterion=known, seed=seed) for share in chosen]
            falls = tuple(whole - measured(metric, mask(program, each), seed) for each in plans)
            groups[name] = GroupSensitivity(falls, tuple(_saving(costs, program, each.kept) for each in plans))
            if saved is not None:
                saved.save(Sensitivity(whole, budget, chosen, groups))
    return Sensitivity(whole, budget, chosen, {name: groups[name] for name in names})


def _saving(costs: Costs, program: Program, kept: Mapping[str, Sequence[int]]) -> float:
    """Return the part of the whole cost that a plan saves."""
    widths = np.array([len(kept[group.name]) for group in program.groups], dtype=np.int64)
    return 1 - costs.cost(widths) / costs.full


def _group(data: Mapping[str, Any]) -> GroupSensitivity:
    return GroupSensitivity(tuple(data["falls"]), tuple(data["saved"]))


def _settings(
    program: Program, metric: Metric, budget: str, criterion: str | Criterion, shares: Sequence[float], seed: int
) -> dict[str, Any]:
    return {
        "program": content_hash(program), "metric": of_code(metric), "budget": budget, "shares": list(shares),
        "criterion": criterion if isinstance(criterion, str) else of_function(criterion, CRITERIA.values()),
        "seed": seed,
    }  # fmt: skip


class _Saved:
    """A file in a folder that holds the settings and what was measured so far."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = folder / NAME, dict(settings)

    def load(self) -> dict[str, Any]:
        """Return what was measured, nothing if there is no file; ``PlanError`` if it is that of other settings."""
        try:
            if not self._path.exists():
                return {}
            data = json.loads(self._path.read_text(encoding="utf-8"))
            settings, found = data["settings"], Sensitivity.from_dict(data["sensitivity"]).to_dict()
        except (OSError, ValueError, KeyError, TypeError, PlanError) as error:
            raise PlanError(f"expected a sensitivity in {self._path}, got another file; give another folder") from error
        check_settings("sensitivity", settings, self._settings)
        return found

    def save(self, found: Sensitivity) -> None:
        """Replace the file in one step; ``PlanError`` if it cannot be written."""
        with writing(self._path, PlanError):
            write_whole(self._path, json.dumps({"settings": self._settings, "sensitivity": found.to_dict()}) + "\n")
