"""Heat maps of a sweep."""

from pathlib import Path

import pytest

from swdc.sweeping import Cell, draw_heat_maps


@pytest.mark.parametrize("spread", [1.0, 1.07])
def test_pictures_of_grids_and_of_drawn_cells_are_written(tmp_path: Path, spread: float):
    places = [(a_min, a_max) for a_min in (0.1, 1.0, 10.0, 100.0) for a_max in (1e2, 1e3)]
    points = {
        Cell(target, a_max * spread**i, a_min * spread**i, 0): float(i)
        for target in (0.5, 0.9)
        for i, (a_min, a_max) in enumerate(places)
    }
    path = tmp_path / "new" / "sweep.png"
    draw_heat_maps(path, "a sweep", {"accuracy": points, "change": points})
    assert path.read_bytes().startswith(b"\x89PNG")
