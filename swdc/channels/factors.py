"""Dimensions that are split into factors or merged from them: the choice of the factor that loses channels.

A tensor with a dimension of heads x head_dim must stay rectangular, so either whole heads are removed, or the same
positions of every head. While the analysis walks over the program, both are left open. Once all uses are known, one
factor of each grid is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from swdc.ir.groups import Bools, Ids, Reason


@dataclass(frozen=True)
class Grid:
    """A dimension with the labels ``whole``, whose shape is that of its factors, and the labels along each factor."""

    whole: Ids
    factors: tuple[Ids, ...]
    reason: Reason


@dataclass(frozen=True)
class Settlement:
    """The joins and freezes that the choice of factors adds to an analysis."""

    joins: list[tuple[Ids, Ids]]
    freezes: list[tuple[Ids, Reason]]


def settle(grids: Sequence[Grid], ids: Ids, frozen: Bools, marked: Bools) -> Settlement:
    """Choose a factor of each grid: prefer one that is not frozen, then one that is marked, then the widest.

    ``ids`` gives the set of coupled labels that each label belongs to. ``frozen`` and ``marked`` say for each set
    whether it has to stay, and whether the user prefers it.
    """
    shut = _propagated(grids, ids, frozen)
    joins: list[tuple[Ids, Ids]] = []
    freezes: list[tuple[Ids, Reason]] = []
    for grid in grids:
        sets = [ids[labels] for labels in grid.factors]
        keys = [(int((~shut[s]).any()), int(marked[s].any()), len(s), int(s.min())) for s in sets]
        chosen = keys.index(max(keys))
        shape = [1] * grid.whole.ndim
        shape[chosen] = -1
        joins.append((grid.whole.ravel(), _spread(grid.factors[chosen].reshape(shape), grid.whole.shape)))
        freezes += [(labels, grid.reason) for axis, labels in enumerate(grid.factors) if axis != chosen]
    return Settlement(joins, freezes)


def _propagated(grids: Iterable[Grid], ids: Ids, frozen: Bools) -> Bools:
    """Return the sets that have to stay: factors of products that stay, and products of factors that stay."""
    shut = frozen.copy()
    placed = [(ids[grid.whole], [ids[labels] for labels in grid.factors]) for grid in grids]
    before = -1
    while before != (before := int(shut.sum())):
        for whole, factors in placed:
            stays = shut[whole]
            for axis, factor in enumerate(factors):
                others = tuple(a for a in range(whole.ndim) if a != axis)
                shut[factor[stays.any(axis=others)]] = True
            product = np.ones((), dtype=bool)
            for factor in factors:
                product = np.logical_and.outer(product, shut[factor])
            shut[whole[product]] = True
    return shut


def _spread(labels: Ids, shape: tuple[int, ...]) -> Ids:
    return np.ascontiguousarray(np.broadcast_to(labels, shape)).ravel()
