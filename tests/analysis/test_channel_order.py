"""The order in which channels stay, and the operators that bring one set to another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from swdc.analysis.channel_order import in_rows
from swdc.channels.routing import Routed

SETS = st.lists(st.frozensets(st.integers(0, 11), min_size=1), min_size=2, max_size=7)


def steps(width: int, *take: int) -> list[str]:
    node = fx.Graph().placeholder("x")
    return [
        f"{s.kind} {list(s.indices) if s.indices else (s.first, s.last)}" for s in Routed(node, 1, width, take).steps()
    ]


def is_row(order: list[int], shared: frozenset[int]) -> bool:
    places = [place for place, channel in enumerate(order) if channel in shared]
    return not places or places[-1] - places[0] + 1 == len(places)


@settings(deadline=None, max_examples=200)
@given(SETS)
def test_orders_hold_the_sets_and_rows_agree(sets: list[frozenset[int]]) -> None:
    links = [(n, n + 1) for n in range(len(sets) - 1)]
    orders = in_rows(links, dict(enumerate(sets)))
    assert [sorted(orders[n]) for n in range(len(sets))] == [sorted(s) for s in sets]
    rows = 0
    for one, other in links:
        shared = sets[one] & sets[other]
        in_row = is_row(orders[one], shared) and is_row(orders[other], shared)
        rows += in_row and [c for c in orders[one] if c in shared] == [c for c in orders[other] if c in shared]
    assert rows >= min(2, len(links))
    assert rows >= 2 * len(links) // 3


def test_a_set_that_is_reached_twice_keeps_its_first_order() -> None:
    kept = {0: frozenset({1, 5}), 1: frozenset({5, 7}), 2: frozenset({1, 5, 7})}
    assert in_rows([(0, 2), (1, 2)], kept) == {0: [1, 5], 1: [5, 7], 2: [1, 5, 7]}


@pytest.mark.parametrize(
    ("width", "take", "expected"),
    [
        (3, (0, 1, 2), []),
        (5, (1, 2), ["slice (1, 3)"]),
        (2, (-1, 0, 1, -1, -1), ["pad (1, 2)"]),
        (5, (-1, 2, 3), ["slice (2, 4)", "pad (1, 0)"]),
        (5, (4, 0), ["gather [4, 0]"]),
        (5, (4, 0, -1), ["gather [4, 0]", "pad (0, 1)"]),
        (5, (4, -1, 0), ["pad (0, 1)", "gather [4, 5, 0]"]),
        (2, (0, -1, 1), ["pad (0, 1)", "gather [0, 2, 1]"]),
    ],
)
def test_the_cheapest_operators_are_taken(width: int, take: tuple[int, ...], expected: list[str]) -> None:
    assert steps(width, *take) == expected


def test_nothing_may_be_left() -> None:
    assert Routed(fx.Graph().placeholder("x"), 1, 2, (-1, -1)).is_empty
    assert not Routed(fx.Graph().placeholder("x"), 1, 2, (-1, 1)).is_empty
