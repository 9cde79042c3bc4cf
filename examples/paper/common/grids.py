"""SWD over a grid of its bounds, and its heat maps, as in Tables 4 to 8."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.options import options_of, parser
from common.rows import Row
from common.running import run
from common.settings import base, grid
from common.tradeoff import STRUCTURES
from swdc.cli.sweep.cells import Cell, parse_values
from swdc.cli.sweep.picture import draw_heat_maps

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


def grid_table(
    description: str | None, name: str, structure: str, networks: Mapping[str, str], targets: Sequence[float],
    a_min: str, a_max: str, width: int = 64,
) -> None:  # fmt: skip
    """Train what has no row yet of networks, by their data, over a grid, and draw a heat map of each."""
    made = parser(description, width=width)
    add_bounds(made, a_min, a_max)
    made.add_argument("--networks", nargs="+", choices=list(networks), default=list(networks), help="run these only")
    found = made.parse_args()
    options = options_of(found)
    for network in found.networks:
        dense = base("grid", network, networks[network], structure, options, options.width)
        rows = run(grid(dense, options, targets, *bounds_of(found)), options.out / FILE, options)
        width = "" if options.width is None else f"-{options.width}"
        title = f"{network}{width} on {networks[network]}: {STRUCTURES[structure].lower()}"
        draw(options.out / f"{name}-{network}.png", title, rows)
