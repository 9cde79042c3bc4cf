"""The threshold that meets a budget in channels, remembered from one step to the next."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from swdc.ir.groups import Bools, Ids
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.planning.dimensions import Floats
from swdc.sparsity.targets.tables import Channels, Numbers

_LEAST, _ROOM = 2.0**-7, 4
"""The least half width of the bracket as a share of the threshold, and the channels that should fit in it."""
_LARGEST = float(np.finfo(np.float64).max)


class Threshold:
    """Finds the channels to remove for a budget from the last threshold, much faster than a full order does.

    One look at the scores tells whether the same channels are removed as last time. If not, the new threshold is
    searched in a bracket around the last one, among a few channels. Both ways answer only if ``Chooser`` certainly
    removes the same channels. What is remembered changes the time only, never the channels.
    """

    def __init__(self, channels: Channels, widths: Ids, costs: Costs, budget: float, emptying: bool) -> None:
        """``widths`` has the width of every group of the program, and ``budget`` is the highest cost that may be left.

        ``emptying`` lets a group lose its best channel.
        """
        self._channels, self._widths, self._emptying = channels, widths, emptying
        self._costs, self._budget = costs, budget
        self._last, self._reach = math.nan, 0.0  # there is no last threshold yet, and nothing near it
        self._gone: Bools | None = None
        self._edges, self._sides = np.zeros(0), b""
        self._needed: dict[int, bool] = {}

    def find(self, scores: Numbers) -> Bools | None:
        """Return which channels to remove, of shape ``(channels,)``, or ``None`` if the full order is needed.

        The array is the same object as last time while the same channels are removed. The result is also ``None`` if a
        score is NaN or infinity.
        """
        return self._gone if self._stands(scores) else self._search(scores)

    def remember(self, scores: Numbers, gone: Bools) -> None:
        """Remember the channels that the full order removes; the next call of ``find`` starts from them.

        The bracket reaches, on either side, twice as far as the threshold has moved.
        """
        before = self._last
        self._keep(scores, gone)
        moved = 0.0 if math.isnan(before) else abs(self._last - before)
        self._reach = max(2 * moved, _LEAST * abs(self._last))

    def _keep(self, scores: Numbers, gone: Bools) -> None:
        """Remember the removed channels; they can stand next time if their scores are lower than all others."""
        highest = max(float(scores[gone].max(initial=-np.inf)), -_LARGEST)
        lowest = min(float(scores[~gone].min(initial=np.inf)), _LARGEST)
        self._last, self._needed = highest, {}
        self._gone = gone if highest < lowest else None
        self._edges = np.array([-_LARGEST, highest / 2 + lowest / 2, _LARGEST])
        self._sides = self._edges.searchsorted(scores).tobytes()

    def _stands(self, scores: Numbers) -> bool:
        """Whether the same channels are removed as last time.

        They are if two things hold. Every score lies on the same side of the threshold as last time; NaN and infinity
        never do. And the budget is missed as soon as the removed channel with the highest score stays. With a single
        group it is always missed then, because all channels of a group cost the same.
        """
        if self._gone is None or self._edges.searchsorted(scores).tobytes() != self._sides:
            return False
        return len(self._channels.starts) == 1 or self._is_least(scores, self._gone)

    def _is_least(self, scores: Numbers, gone: Bools) -> bool:
        """Whether the budget is missed if the removed channel with the highest score stays, for each of equal ones."""
        highest = scores[gone].max(initial=-np.inf)
        return all(map(self._is_needed, set(self._channels.group[gone & (scores == highest)].tolist())))

    def _is_needed(self, group: int) -> bool:
        """Whether the budget is missed if one more channel of a group stays; remembered while the set stands."""
        if group not in self._needed:
            widths = self._widths - self._numbers(self._channels.group[self._gone])
            widths[group] += 1
            self._needed[group] = not self._is_met(widths)
        return self._needed[group]

    def _search(self, scores: Numbers) -> Bools | None:
        """Return which channels to remove if the threshold is near the last one, and remember them; else ``None``."""
        offered = self._offered(scores)
        if offered is None:
            return None
        under = offered <= self._last - self._reach
        near = np.flatnonzero((offered <= self._last + self._reach) ^ under)
        near = near[np.argsort(offered[near])]
        number = self._fewest(offered, under, near)
        if number is None:
            return None
        gone: Bools = offered <= offered[near[number - 1]]
        self._reach *= _fitting(len(near))
        self._keep(scores, gone)
        return gone

    def _offered(self, scores: Numbers) -> Floats | None:
        """Return the scores in float64, with infinity for channels that always stay; ``None`` if these are not known.

        The best channel of each group always stays, unless groups may be emptied. It is not known if two channels are
        best, or if a score is NaN or infinity.
        """
        if not np.isfinite(scores).all():
            return None
        wide: Floats = scores.astype(np.float64, copy=False)
        if self._emptying:
            return wide
        best = wide == np.maximum.reduceat(wide, self._channels.starts)[self._channels.segment]
        return np.where(best, np.inf, wide) if np.count_nonzero(best) == len(self._channels.starts) else None

    def _fewest(self, offered: Floats, under: Bools, near: Ids) -> int | None:
        """Return how many of the channels in the bracket, the lowest first, have to be removed to meet the budget.

        ``None`` if none has to be removed, if all of them are too few, or if equal scores leave their order open.
        """
        if len(near) == 0 or (np.diff(offered[near]) == 0).any():
            return None
        widths, going = self._widths - self._numbers(self._channels.group[under]), self._channels.group[near]
        found = bisect_left(
            range(len(near) + 1), True, key=lambda number: self._is_met(widths - self._numbers(going[:number]))
        )
        return found if 0 < found <= len(near) else None

    def _numbers(self, groups: Ids) -> Ids:
        """Return how many times each group of the program occurs."""
        return np.bincount(groups, minlength=len(self._widths))

    def _is_met(self, widths: Ids) -> bool:
        """Whether the budget is met; an emptied group costs nothing (see ``Chooser``)."""
        return self._costs.cost(widths) <= self._budget


def _fitting(near: int) -> float:
    """Return the factor for the width of a bracket with ``near`` channels, so that about ``_ROOM`` fit in it."""
    if near > 4 * _ROOM:
        return 0.5
    return 2.0 if near < _ROOM else 1.0
