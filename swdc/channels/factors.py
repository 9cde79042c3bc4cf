"""Dimensions that are split into factors or merged from them: which factor keeps its channels.

A tensor whose dimension is seen as heads x head_dim must stay rectangular, so either whole heads go, or the same
positions of every head. While the analysis walks over the program both are left open; once all uses are known, each
grid settles on one factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from swdc.ir.groups import Bools, Ids, Reason


@dataclass(frozen=True)
class Grid:
    """A dimension with the labels ``whole``, of the shape of its factors, and the labels along each factor."""

    whole: Ids
    factors: tuple[Ids, ...]
    reason: Reason


@dataclass(frozen=True)
class Settlement:
    """What settling grids adds to an analysis."""

    joins: list[tuple[Ids, Ids]]
    freezes: list[tuple[Ids, Reason]]


def settle(grids: Sequence[Grid], ids: Ids, frozen: Bools, marked: Bools) -> Settlement:
    """Choose a factor of each grid: one that is open, if possible one that is marked, and of these the widest.

    ``ids`` gives the set of coupled labels that each label lies in; ``frozen`` and ``marked`` say for each set
    whether it has to stay, and whether the user wants it to be chosen.
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
    """Return what has to stay: the factors of whatever stays, and the products of factors that stay."""
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
