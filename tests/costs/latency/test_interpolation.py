"""Where layers are measured, and what is said of the sizes between."""

from __future__ import annotations

import pytest

from swdc.costs.latency.interpolation import Grid, axis
from swdc.costs.latency.operator_kinds import CHANNELS, COUNT, ELEMENTS, Layer


def dense(largest: tuple[int, ...], smallest: tuple[int, ...]) -> Layer:
    return Layer("Gemm", (), largest, smallest)


@pytest.mark.parametrize(
    ("kind", "largest", "smallest", "points"),
    [
        (CHANNELS, 1000, 1000, (1000,)),
        (CHANNELS, 3, 1, (3,)),
        (CHANNELS, 20, 1, (8, 16, 20)),
        (CHANNELS, 48, 20, (16, 24, 32, 40, 48)),
        (CHANNELS, 128, 8, (8, 16, 24, 32, 40, 48, 56, 64, 96, 128)),
        (CHANNELS, 320, 200, (192, 224, 256, 320)),
        (CHANNELS, 8192, 4000, (3584, 4096, 6144, 8192)),
        (COUNT, 12, 1, (1, 2, 4, 8, 12)),
        (COUNT, 12, 3, (2, 4, 8, 12)),
        (COUNT, 7, 7, (7,)),
        (ELEMENTS, 5000, 100, (256, 1024, 4096, 16384)),
        (ELEMENTS, 100, 10, (256,)),
    ],
)
def test_an_axis_has_every_block_where_it_matters_and_both_ends(
    kind: str, largest: int, smallest: int, points: tuple[int, ...]
) -> None:
    assert axis(kind, largest, smallest) == points


def test_every_size_lies_between_the_ends_of_its_axis() -> None:
    for largest in (1, 7, 8, 9, 64, 100, 250, 2048, 5000):
        for smallest in range(1, largest + 1, 1 + largest // 50):
            points = axis(CHANNELS, largest, smallest)
            assert list(points) == sorted(set(points))
            assert points[-1] == largest
            assert points[0] <= max(smallest, 8)


def test_measured_points_are_given_back_and_a_plane_is_met_everywhere() -> None:
    grid = Grid(dense((4, 64, 200), (1, 8, 8)))
    times = {(r, i, o): 1.0 + 2 * r + 3 * i + 5 * o for r, i, o in grid.points()}
    assert len(times) == 3 * 8 * 13
    for point, ms in times.items():
        assert grid.at(point, times) == pytest.approx(ms)
    assert grid.at((3, 24, 112), times) == pytest.approx(1 + 2 * 3 + 3 * 24 + 5 * 112)


def test_a_begun_block_costs_as_much_as_a_whole_one() -> None:
    grid = Grid(dense((1, 64, 20), (1, 1, 1)))
    times = {point: float(point[1] * point[2]) for point in grid.points()}
    assert grid.at((1, 17, 8), times) == grid.at((1, 24, 8), times) == 24 * 8
    assert grid.at((1, 8, 17), times) == grid.at((1, 8, 20), times) == 8 * 20


def test_beyond_the_ends_the_end_counts() -> None:
    grid = Grid(Layer("Add", (), (5000,), (500,)))
    times = {point: float(point[0]) for point in grid.points()}
    assert grid.at((3,), times) == 256
    assert grid.at((10**9,), times) == 16384
