"""Schedules of the coefficient, by hand."""

from __future__ import annotations

import math

import pytest

from swdc.errors import PlanError
from swdc.sparsity.penalties.schedules import SCHEDULES, constant, cosine, exponential, find_schedule, linear


def test_by_hand() -> None:
    steps = range(5)
    assert [linear(s, 1, 9, 4) for s in steps] == [1, 3, 5, 7, 9]
    assert [constant(s, 1, 9, 4) for s in steps] == [9] * 5
    assert [exponential(s, 1, 16, 4) for s in steps] == pytest.approx([1, 2, 4, 8, 16], rel=1e-12)
    root = math.sqrt(0.5)
    assert [cosine(s, 1, 9, 4) for s in steps] == pytest.approx([1, 5 - 4 * root, 5, 5 + 4 * root, 9], rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_and_end_at_their_bounds_and_stay(name: str) -> None:
    schedule = find_schedule(name)
    assert schedule(0, 2.0, 50.0, 7) == (50.0 if name == "constant" else 2.0)
    assert schedule(7, 2.0, 50.0, 7) == pytest.approx(50.0, rel=1e-12)
    assert schedule(70, 2.0, 50.0, 7) == pytest.approx(50.0, rel=1e-12)
    assert schedule(3, 2.0, 50.0, 7) <= schedule(4, 2.0, 50.0, 7)


def test_functions_are_accepted_and_anything_else_is_refused() -> None:
    assert find_schedule(max) is max
    for bad in ("sine", 3):
        with pytest.raises(PlanError, match=r"expected a schedule of \['constant', .*\] or a function of"):
            find_schedule(bad)  # type: ignore[arg-type]
