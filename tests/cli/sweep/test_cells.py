"""The values of a sweep and their combinations."""

import pytest

from swdc.cli.sweep.cells import Cell, Space, parse_values
from swdc.errors import CommandError


def test_values_are_a_list_or_the_powers_of_ten_of_a_range():
    assert parse_values("0.5,2,1e3", "a_min") == (0.5, 2.0, 1000.0)
    assert parse_values("1e-4:1e-1", "a_min") == (1e-4, 1e-3, 1e-2, 1e-1)
    assert parse_values("1:1", "a_min") == (1.0,)
    assert parse_values("1e2:5e3", "a_max") == (100.0, 1000.0)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1e3:1e1", "2e1:1e4", "0:1", "1:2:3"])
def test_other_text_is_refused(text: str):
    with pytest.raises(CommandError, match=r"expected .* for --a-min"):
        parse_values(text, "--a-min")


def test_the_grid_has_every_combination_once_and_seeds_last():
    cells = Space((0.1, 1.0), (10.0, 10.0), (0.9,), (0, 1)).cells()
    assert cells == [
        Cell(0.9, 10.0, 0.1, 0), Cell(0.9, 10.0, 1.0, 0), Cell(0.9, 10.0, 0.1, 1), Cell(0.9, 10.0, 1.0, 1)
    ]  # fmt: skip
    assert Cell.of(cells[2].params()) == cells[2]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (((0.0,), (1.0,), (0.5,)), "positive numbers for a_min"),
        (((1.0,), (float("inf"),), (0.5,)), "positive numbers for a_max"),
        (((1.0,), (1.0,), (90.0,)), "write 0.9 for 90 %"),
        (((1.0,), (1.0,), ()), "expected targets"),
    ],
)
def test_values_out_of_range_are_refused(space: tuple[tuple[float, ...], ...], message: str):
    with pytest.raises(CommandError, match=message):
        Space(*space)
