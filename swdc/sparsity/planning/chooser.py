"""From scores to widths, and from widths to kept channels."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from swdc.errors import PlanError
from swdc.ir.groups import Bools, ChannelGroup, Ids
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.planning.criteria import Scores
from swdc.sparsity.planning.dimensions import Floats


class Chooser:
    """Turns scores into kept channels: by one order over all groups, or by a share of each.

    ``units`` is one number for all groups, or one for each; a group keeps a multiple of it. ``staying`` is how many
    channels of every group stay, or of each; with 0 groups may be emptied. ``gone`` says for each group which channels
    an earlier plan has removed.
    """

    def __init__(
        self, groups: Sequence[ChannelGroup], scores: Scores, units: int | Ids = 1, staying: int | Ids = 1,
        gone: Sequence[Bools] | None = None,
    ) -> None:  # fmt: skip
        self._groups, self._gone = groups, gone
        self._scores = scores = scores if gone is None else sunk(scores, gone)
        self.widths = np.array([g.width for g in groups], dtype=np.int64)
        self.most: Ids = self.widths - np.array([each.sum() for each in gone], dtype=np.int64) if gone else self.widths
        """The widths that the earlier plan has left."""
        self.units = np.broadcast_to(np.asarray(units, dtype=np.int64), self.widths.shape)
        self._staying = np.minimum(np.broadcast_to(np.asarray(staying, dtype=np.int64), self.widths.shape), self.most)
        self.free = np.array([s is not None for s in scores], dtype=bool)
        self._orders = [None if s is None else np.argsort(-s, kind="stable") for s in scores]
        self._descending = [None if s is None else s[o] for s, o in zip(scores, self._orders, strict=True)]
        free = [(group, s) for group, s in enumerate(self._descending) if s is not None]
        spans = [(int(self._staying[group]), int(self.most[group])) for group, _ in free]
        owners = [np.full(end - first, group) for (first, end), (group, _) in zip(spans, free, strict=True)]
        values = [s[first:end] for (first, end), (_, s) in zip(spans, free, strict=True)]
        ranks = [np.arange(first, end) / len(s) for (first, end), (_, s) in zip(spans, free, strict=True)]
        order = np.lexsort((-_joined(ranks), _joined(values)))  # ties are spread evenly over the groups
        self._removal = _joined(owners).astype(np.int64)[order]  # groups in the order in which they lose channels

    def only(self, chosen: Bools) -> Chooser:
        """Return a chooser of the same groups that cuts those only which are ``chosen``."""
        scores = [s if cut else None for s, cut in zip(self._scores, chosen.tolist(), strict=True)]
        return Chooser(self._groups, scores, self.units, self._staying, self._gone)

    @property
    def steps(self) -> int:
        """The largest number of channels that can be removed."""
        return len(self._removal)

    @property
    def least(self) -> Ids:
        """The widths after all channels that can be removed are removed."""
        return self.prefix(self.steps)

    def order(self, group: int) -> Ids:
        """Return the channels of a group that has scores, the best first, those that are gone last."""
        found = self._orders[group]
        assert found is not None
        return found

    def scores(self, group: int) -> Floats:
        """Return the scores of what is left of a group that has some, the best first."""
        found = self._descending[group]
        assert found is not None
        return found[: int(self.most[group])]

    def prefix(self, removed: float) -> Ids:
        """Return the widths after the ``removed`` lowest channels are removed, rounded up to units."""
        gone = np.bincount(self._removal[: int(removed)], minlength=len(self.widths))
        return self._rounded(self.most - gone)

    def shares(self, share: float) -> Ids:
        """Return the widths after a share of each group is removed, rounded up to units."""
        gone = np.floor(self.widths * min(share, 1.0) + 1e-9).astype(np.int64)
        kept = np.maximum(self.widths - gone, np.maximum(self._staying, 1))
        return self._rounded(np.where(self.free, kept, self.most))

    def _rounded(self, widths: Ids) -> Ids:
        up = -(-widths // self.units) * self.units
        rounded: Ids = np.minimum(up, self.most)
        return rounded

    def smallest(self, scope: str, costs: Costs, target: float) -> Ids:
        """Return the widths of the smallest removal whose cost meets the target, found by bisection."""
        if scope == "group":
            widths_at: Callable[[float], Ids] = self.shares
            points = np.unique(np.concatenate([np.arange(w) / w for w in set(self.widths.tolist())]))
        else:
            widths_at = self.prefix
            points = np.arange(self.steps + 1, dtype=np.float64)
        low, high = 0, len(points) - 1
        self.check(costs, widths_at(points[high]), target)
        while low < high:
            middle = (low + high) // 2
            if self._cost(costs, widths_at(points[middle])) <= target:
                high = middle
            else:
                low = middle + 1
        return widths_at(points[low])

    def check(self, costs: Costs, least: Ids, target: float) -> None:
        """Raise ``PlanError`` if the least widths cost more than the target."""
        cost = self._cost(costs, least)
        if cost > target:
            rounds = bool((self.units > 1).any())
            some = "a channel" if self._staying.any() else "a channel, even of zeros"
            some = "its share of at_most" if (self._staying > 1).any() else some
            keeps = "its unit of round_to" if rounds else some
            raise PlanError(
                f"expected a budget that can be met, but at most {1 - cost / max(costs.full, 1e-12):.1%} of the "
                f"{costs.kind} can be removed while every group keeps {keeps}; lower the sparsity, or ignore or freeze "
                f"less{', or lower round_to' if rounds else ''}"
            )

    @staticmethod
    def _cost(costs: Costs, widths: Ids) -> float:
        """Return the cost of some widths; an emptied group costs nothing, as its channel of zeros does in the paper."""
        return costs.cost(widths)

    def filled(self, widths: Ids, scope: str, costs: Costs, target: float) -> Ids:
        """Give back channels that the removal of whole units took needlessly, as long as the cost meets the target.

        Units come back one by one: first for the groups whose next channels score highest, or with ``scope="group"``
        for the groups that keep the smallest share.
        """
        filled = widths.copy()
        queue = [
            (self._priority(g, int(filled[g]), scope), g)
            for g in np.flatnonzero(self.free & (self.units > 1) & (filled < self.most)).tolist()
        ]
        heapq.heapify(queue)
        while queue:
            _, group = heapq.heappop(queue)
            before = int(filled[group])
            filled[group] = min(before + self.units[group], self.most[group])
            if costs.cost(filled) > target:
                filled[group] = before  # it will not fit later either, because others only get wider
            elif filled[group] < self.most[group]:
                heapq.heappush(queue, (self._priority(group, int(filled[group]), scope), group))
        return filled

    def _priority(self, group: int, width: int, scope: str) -> float:
        if scope == "group":
            return float(width / self.widths[group])
        return -float(self.scores(group)[width : width + int(self.units[group])].mean())

    def plan(self, widths: Ids, program: Program, settings: dict[str, object]) -> Plan:
        """Return the plan that keeps the best channels of each group."""
        kept = {}
        for number, (group, order, width) in enumerate(zip(self._groups, self._orders, widths, strict=True)):
            left = np.arange(group.width) if self._gone is None else np.flatnonzero(~self._gone[number])
            chosen = left if order is None else np.sort(order[: int(width)])
            kept[group.name] = tuple(chosen.tolist())
        return Plan(kept, {g.name: g.width for g in self._groups}, program.hash(), settings)


def sunk(scores: Scores, gone: Sequence[Bools]) -> Scores:
    """Return scores that are lower for channels that are gone than for any other."""
    return [None if s is None else np.where(out, -np.inf, s) for s, out in zip(scores, gone, strict=True)]


def _joined(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0)
