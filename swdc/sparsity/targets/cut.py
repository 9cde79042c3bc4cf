"""The threshold that meets a budget in channels: looked for near where it was found last."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from swdc.ir.groups import Bools, Ids
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.planning.dimensions import Floats

_LEAST, _ROOM = 2.0**-7, 4
"""The least half width of the bracket as a share of the threshold, and the channels that should fit in it."""


class Cut:
    """Finds the channels that go for a budget among the few whose scores are near the last threshold.

    It answers only where it is sure: what goes is what ``Chooser`` takes away, which asks for no equal scores where
    the threshold lies, and for a threshold that has not moved far. What is remembered decides over the time only.
    """

    def __init__(self, groups: Ids, starts: Ids, widths: Ids, costs: Costs, emptying: bool) -> None:
        """``groups`` gives the group of each channel, ``starts`` the first channel of each group that loses some."""
        self._groups, self._starts, self._widths = groups, starts, widths
        self._costs, self._emptying = costs, emptying
        lengths = np.diff(np.append(starts, len(groups)))
        self._segments = np.repeat(np.arange(len(starts)), lengths)
        self._last: float | None = None
        self._reach = 0.0

    def find(self, scores: Floats, target: float) -> Bools | None:
        """Return which channels go so that the cost is at most ``target``; ``None`` where the full order has to say."""
        if self._last is None:
            return None
        offered = scores if self._emptying else self._without_best(scores)
        if offered is None:
            return None
        under = offered <= self._last - self._reach
        near = np.flatnonzero((offered <= self._last + self._reach) ^ under)
        near = near[np.argsort(offered[near])]
        values = offered[near]
        if len(near) == 0 or (np.diff(values) == 0).any():
            return None
        below = self._widths - np.bincount(self._groups[under], minlength=len(self._widths))
        going = self._groups[near]
        number = self._fewest(below, going, target)
        if number is None:
            return None
        self.remember(float(values[number - 1]), len(near))
        gone: Bools = offered <= values[number - 1]
        return gone

    def remember(self, threshold: float, inside: int = 0) -> None:
        """Start from a threshold next time, with a bracket for about ``_ROOM`` channels, or one as wide as it moved."""
        if inside == 0:
            moved = 0.0 if self._last is None else abs(threshold - self._last)
            self._reach = max(2 * moved, _LEAST * abs(threshold))
        elif inside > 4 * _ROOM:
            self._reach /= 2
        elif inside < _ROOM:
            self._reach *= 2
        self._last = threshold

    def _fewest(self, below: Ids, going: Ids, target: float) -> int | None:
        """Return how many of the channels in the bracket go at least, ``None`` if that is none or more than these."""
        numbers = range(len(going) + 1)
        found = bisect_left(numbers, True, key=lambda number: self._cost(below, going, number) <= target)
        return found if 0 < found < len(numbers) else None

    def _cost(self, below: Ids, going: Ids, number: int) -> float:
        widths = below - np.bincount(going[:number], minlength=len(below))
        return self._costs.cost(np.maximum(widths, 1))

    def _without_best(self, scores: Floats) -> Floats | None:
        """Return scores in which the best channel of each group never goes; ``None`` where a group has two of them."""
        best = scores == np.maximum.reduceat(scores, self._starts)[self._segments]
        if np.count_nonzero(best) != len(self._starts):
            return None
        return np.where(best, np.inf, scores)
