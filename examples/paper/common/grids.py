"""Heat maps of SWD over its bounds, as in Tables 4 to 8."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from common.rows import Row
from swdc.sweeping import Cell, draw_heat_maps, parse_values

FILE = "grids.json"


def add_bounds(made: ArgumentParser, a_min: str, a_max: str) -> None:
    """Add the options of the grid's axes; the defaults are the paper's."""
    made.add_argument("--a-min", default=a_min, metavar="VALUES", help="0.1,1,10, or the powers of ten in 1e-4:1e-1")
    made.add_argument("--a-max", default=a_max, metavar="VALUES", help="likewise")


def bounds_of(found: Namespace) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the values of a_min and a_max."""
    return parse_values(found.a_min, "--a-min"), parse_values(found.a_max, "--a-max")


def draw(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Draw the accuracy after the removal and its change through the removal, a row for each target."""
    names = {"accuracy": "Top-1 accuracy after removal (%)", "change": "Change of accuracy through removal (%)"}
    found = [row for row in rows if row["method"] == "swd" and row.get("accuracy") is not None]
    cells = {Cell(row["target"], row["a_max"], row["a_min"], row["seed"]): row for row in found}
    if cells:
        draw_heat_maps(path, title, {t: {c: row[n] for c, row in cells.items()} for n, t in names.items()})
