"""How many channels the groups keep: one budget for all groups, or shares for some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from swdc.errors import PlanError
from swdc.ir.groups import ChannelGroup, Ids
from swdc.sparsity.planning.budgets import CHANNELS, Costs
from swdc.sparsity.planning.chooser import Chooser
from swdc.sparsity.planning.group_patterns import for_groups
from swdc.sparsity.planning.latency import LATENCY, TimedCosts, fastest

GLOBAL, GROUP, ISOMORPHIC = "global", "group", "isomorphic"
SCOPES = (GLOBAL, GROUP, ISOMORPHIC)
_ROUNDING = 1e-12  # so that 0.9 of ten channels are nine, in spite of rounding errors
_REST = -1


def check_share(name: str, share: float) -> None:
    """Raise ``PlanError`` unless a share to remove is at least 0 and below 1."""
    if not 0 <= share < 1:
        raise PlanError(f"expected a {name} (the share that is removed) of at least 0 and below 1, got {share}")


def staying_of(groups: Sequence[ChannelGroup], at_most: float | Mapping[str, float]) -> Ids:
    """Return how many channels of each group stay, at least one, if it loses ``at_most`` that share of them."""
    shares = np.array(for_groups("at_most", groups, at_most, 1.0, _check_part))
    widths = np.array([group.width for group in groups], dtype=np.int64)
    staying: Ids = np.maximum(widths - np.floor(widths * shares + _ROUNDING * widths).astype(np.int64), 1)
    return staying


def _check_part(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise PlanError(f"expected {name} as a share between 0 and 1, got {share}")


def widths_within(chooser: Chooser, costs: Costs, scope: str, sparsity: float) -> Ids:
    """Return the largest widths of all groups whose cost is within the budget."""
    if scope == GROUP and costs.kind == CHANNELS and bool((chooser.units == 1).all()):
        return chooser.shares(sparsity)
    return widths_under(chooser, costs, scope, _target(costs.full, sparsity))


def widths_under(chooser: Chooser, costs: Costs, scope: str, target: float) -> Ids:
    """Return the largest widths of all groups whose cost is at most ``target``."""
    if costs.kind == LATENCY and scope == GLOBAL:
        assert isinstance(costs, TimedCosts)
        return fastest(chooser, costs, target)
    return chooser.filled(chooser.smallest(scope, costs, target), scope, costs, target)


def sets_of(groups: Sequence[ChannelGroup], sparsity: Mapping[str, float], budget: str) -> Ids:
    """Return for each group the position of its pattern in ``sparsity``, -1 if none matches; check the shares."""
    if budget != CHANNELS:
        raise PlanError(f"expected one number as the sparsity of budget={budget!r}, got shares of channels by group")
    if not sparsity:
        raise PlanError("expected a share for some groups as the sparsity, got an empty mapping; give names and shares")
    for share in sparsity.values():
        check_share("sparsity", share)
    numbers = {pattern: number for number, pattern in enumerate(sparsity)}
    return np.array(for_groups("sparsity", groups, numbers, _REST, lambda name, number: None), dtype=np.int64)


def widths_of_sets(chooser: Chooser, sets: Ids, counts: Ids, scope: str, shares: Sequence[float]) -> Ids:
    """Return the widths when the groups of each set lose a share of their channels together.

    Each group of the chooser stands for some (``counts``).
    """
    widths = chooser.most.copy()
    for number, share in enumerate(shares):
        chosen = sets == number
        costs = _ChannelsOf(counts * chosen, chooser.widths)
        widths[chosen] = widths_within(chooser.only(chosen), costs, scope, share)[chosen]
    return widths


class _ChannelsOf:
    """The number of channels of some groups."""

    kind = CHANNELS

    def __init__(self, counts: Ids, widths: Ids) -> None:
        self._counts = counts
        self.full = self.cost(widths)

    def cost(self, widths: Ids) -> float:
        return float(self._counts @ widths)


def _target(full: float, sparsity: float) -> float:
    return full - sparsity * full + _ROUNDING * full
