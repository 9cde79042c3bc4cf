"""Heat maps of a sweep."""

from pathlib import Path

from swdc.cli.sweep.cells import Cell
from swdc.cli.sweep.picture import draw_heat_maps


def test_pictures_of_grids_and_of_drawn_cells_are_written(tmp_path: Path):
    places = [(a_min, a_max) for a_min in (0.1, 1.0, 10.0, 100.0) for a_max in (1e2, 1e3)]
    grid = {Cell(0.9, a_max, a_min, 0): a_min for a_min, a_max in places}
    drawn = {Cell(0.5, a_max * 1.07**i, a_min * 1.07**i, 0): float(i) for i, (a_min, a_max) in enumerate(places)}
    path = tmp_path / "new" / "sweep.png"
    draw_heat_maps(path, "a sweep", {"accuracy": grid | drawn})
    assert path.read_bytes().startswith(b"\x89PNG")
