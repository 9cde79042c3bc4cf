"""The channels that went last time, for as long as the same ones go."""

from __future__ import annotations

import numpy as np

from swdc.ir.groups import Bools, Ids
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.targets.segments import Numbers

_LARGEST = float(np.finfo(np.float64).max)


class Standing:
    """Tells with one look at the scores whether what goes for a budget is what went before.

    It is if every score lies on the side of a threshold where it lay, which no NaN and no infinity does, and if the
    budget would be missed should the highest of those that go stay. What goes next time costs the same as long as it is
    of the same groups, so that this is worked out once for each group.
    """

    def __init__(self, groups: Ids, widths: Ids, costs: Costs, target: float) -> None:
        """``groups`` gives the group of each channel, ``widths`` the width of every group of the program."""
        self._groups, self._widths, self._costs, self._target = groups, widths, costs, target
        self._several = bool((groups != groups[0]).any())
        self._gone: Bools | None = None
        self._edges, self._sides = np.zeros(0), b""
        self._needed: dict[int, bool] = {}

    def remember(self, scores: Numbers, gone: Bools) -> None:
        """Remember what goes; it can stand where a threshold parts it from what stays."""
        highest, lowest = float(scores[gone].max(initial=-np.inf)), float(scores[~gone].min(initial=np.inf))
        self._gone, self._needed = (gone if highest < lowest else None), {}
        between = np.clip(highest, -_LARGEST, _LARGEST) / 2 + np.clip(lowest, -_LARGEST, _LARGEST) / 2
        self._edges = np.array([-_LARGEST, between, _LARGEST])
        self._sides = self._edges.searchsorted(scores).tobytes()

    def find(self, scores: Numbers) -> Bools | None:
        """Return what went before, the very array; ``None`` where something else goes, or may go."""
        if self._gone is None or self._edges.searchsorted(scores).tobytes() != self._sides:
            return None
        return self._gone if not self._several or self._is_least(scores) else None

    def _is_least(self, scores: Numbers) -> bool:
        """Whether the budget is missed if any one of the highest of those that go stays."""
        highest = scores[self._gone].max(initial=-np.inf)
        return all(map(self._is_needed, set(self._groups[self._gone & (scores == highest)].tolist())))

    def _is_needed(self, group: int) -> bool:
        """Whether the budget is missed if one more channel of a group stays."""
        if group not in self._needed:
            widths = self._widths - np.bincount(self._groups[self._gone], minlength=len(self._widths))
            widths[group] += 1
            self._needed[group] = self._costs.cost(np.maximum(widths, 1)) > self._target
        return self._needed[group]
