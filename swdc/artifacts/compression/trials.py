"""The trials of a compression, and which share of the budget the next one removes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One cut with its recovery.

    ``share`` of the dense program's cost was to go, by a cut of the network that came out of the trial with the share
    ``base`` (0 is the dense program). ``exponent`` says how much sensitivities counted in the plan that was
    taken, and ``removed`` which share is gone. ``cut_metric`` is the metric before recovery, ``metric`` that after it.
    ``good`` says whether the metric has fallen by no more than asked; ``reason`` why there is no network.
    """

    share: float
    base: float
    exponent: float | None = None
    removed: float | None = None
    cut_metric: float | None = None
    metric: float | None = None
    good: bool = False
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as plain data, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.reason:
            return f"{self.share:.1%} to go: {self.reason}"
        verdict = "good enough" if self.good else "fell too far"
        return f"{self.removed:.1%} gone: metric {self.cut_metric:.4g}, recovered {self.metric:.4g}, {verdict}"


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """Return the good trial that removes the most, ``None`` if there is none."""
    return max((trial for trial in trials if trial.good), key=lambda trial: trial.removed or 0.0, default=None)


def cuts_of(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose cuts lead from the dense program to the best one, in order; none if none is good."""
    by_share = {trial.share: trial for trial in trials if trial.good}
    found, trial = list[Trial](), best_of(trials)
    while trial is not None:
        found.append(trial)
        trial = by_share.get(trial.base)
    return found[::-1]


def next_share(trials: Sequence[Trial], running: Iterable[float]) -> float:
    """Return the share that the next trial removes: the middle between what was good and what fell too far.

    Where other trials are under way, it is the middle of the widest gap between them, so that one process bisects and
    several search side by side.
    """
    low = max((trial.removed or 0.0 for trial in trials if trial.good), default=0.0)
    high = min((trial.share for trial in trials if not trial.good and trial.share > low), default=1.0)
    marks = [low, *sorted(share for share in running if low < share < high), high]
    before, after = max(pairwise(marks), key=lambda gap: gap[1] - gap[0])
    return (before + after) / 2
