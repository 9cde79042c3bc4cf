"""Which factor of a dimension keeps its channels."""

from __future__ import annotations

import numpy as np

from swdc.channels.factors import Grid, settle
from swdc.ir.groups import Reason

WHOLE = np.arange(6).reshape(2, 3)
GRID = Grid(WHOLE, (np.arange(6, 8), np.arange(8, 11)), Reason("other"))


def chosen(frozen: list[int], marked: list[int]) -> list[int]:
    shut, wanted = np.zeros(11, dtype=bool), np.zeros(11, dtype=bool)
    shut[frozen], wanted[marked] = True, True
    result = settle([GRID], np.arange(11), shut, wanted)
    ((one, other),) = result.joins
    assert one.tolist() == WHOLE.ravel().tolist()
    ((held, reason),) = result.freezes
    assert reason.text == "other"
    assert set(held) | set(other) == set(range(6, 11))
    return other.tolist()


def test_the_widest_factor_where_nothing_speaks_against_it() -> None:
    assert chosen([], []) == [8, 9, 10, 8, 9, 10]


def test_the_marked_factor_if_there_is_one() -> None:
    assert chosen([], [6, 7]) == [6, 6, 6, 7, 7, 7]


def test_a_factor_that_must_stay_is_not_chosen() -> None:
    assert chosen([8, 9, 10], []) == [6, 6, 6, 7, 7, 7]
    assert chosen([6, 7], [6, 7]) == [8, 9, 10, 8, 9, 10]


def test_whatever_stays_holds_its_factors() -> None:
    assert chosen([0, 4, 5], []) == [8, 9, 10, 8, 9, 10], "all of one factor are held, so that nothing is gained"
    assert chosen([0, 1, 2], [8, 9, 10]) == [6, 6, 6, 7, 7, 7], "only one of two is held"
