"""``python -m examples.bench sizes`` and ``sizes-table``: networks at sizes other than their example's."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from examples.bench.coverage.rows import Settings
from examples.bench.measurements.other_sizes import EQUAL, RAW, REFUSED, SILENT, measure_sizes, verdicts
from examples.bench.networks.catalogue import LIBRARIES, names
from examples.bench.networks.entry import known
from examples.bench.options import AgainOption, FileOption, OnlyOption, names_of
from examples.bench.running.apart import Limits
from examples.bench.running.collect import collect
from examples.bench.running.markdown import markdown
from examples.bench.running.row_files import Row, read_rows
from examples.bench.running.rows_apart import rows_apart
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, reported

LibraryName = StrEnum("LibraryName", {name: name for name in LIBRARIES})  # type: ignore[misc]  # not a literal
TORCHVISION = LibraryName("torchvision")
LibraryOption = Annotated[LibraryName, typer.Option("--library", help="Which networks.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Time for each network.")]
COLUMNS = ("network", "sizes", "not equal")


def bench_sizes(
    library: LibraryOption = TORCHVISION,
    only: OnlyOption = None,
    timeout: TimeoutOption = 300.0,
    again: AgainOption = False,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Run networks at two sizes other than their example's: do program, slim program, folder and ONNX file agree?

    The sizes are those that the model itself takes. The program is compared with the model and the slim program with
    the masked one, in float64; folder and ONNX file with the slim program. A file that has rows is resumed.

    $ python -m examples.bench sizes --library torchvision --json torchvision.json
    """
    with reported(show_traceback=show_traceback) as output:
        every = names(library.value)
        wanted = [known(name, every) for name in names_of(only, every)]
        settings = Settings(library.value, seed, Limits(timeout, 16.0))
        found = {row["name"]: row for row in read_rows(json_file) if settings.same(row) and not again}
        rows = collect(
            lambda announce: rows_apart(measure_sizes, wanted, found, settings, announce), len(wanted), json_file
        )
        output.table(f"sizes: {library.value}", list(COLUMNS), [_cells(row) for row in rows])
        output.line(_summary(rows))
        if any(row["kind"] or any(not_equal(row)) for row in rows):
            raise typer.Exit(NOT_AS_ASKED)


def bench_sizes_table(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Written by sizes --json.")],
    show_traceback: TracebackOption = False,
) -> None:
    """Print the rows of sizes in Markdown: a summary of each file, and the networks that are not equal everywhere.

    $ python -m examples.bench sizes-table torchvision.json timm.json
    """
    with reported(show_traceback=show_traceback) as output:
        for file in files:
            rows = read_rows(file)
            table = markdown(COLUMNS, (cells for row in rows if (cells := _cells(row))[-1]))
            output.line(f"## {file.stem}\n\n{_summary(rows)}\n\n{table}\n")


def not_equal(row: Row) -> Iterator[str]:
    """Yield for each size that the network takes, and at which not all parts agree, which part does not, and why."""
    for number, (part, found) in enumerate(verdicts(row)):
        if found != EQUAL:
            shapes = ", ".join("x".join(map(str, shape)) for shape in row["shapes"][number])
            yield f"{shapes}: {part} {found}"


def _cells(row: Row) -> list[str]:
    shapes = [" ".join("x".join(map(str, shape)) for shape in each) for each in row.get("shapes") or []]
    why = [f"{row['kind']} in {row.get('phase')}: {row['reason']}"] if row["kind"] else []
    return [row["name"], ", ".join(shapes) or "takes no other", "; ".join([*not_equal(row), *why])]


def _summary(rows: list[Row]) -> str:
    """Return in how many pairs of network and size all parts agree, and what there is in the others."""
    found = [verdict.split(":")[0] for row in rows for _, verdict in verdicts(row)]
    others = ", ".join(f"{kind}: {found.count(kind)}" for kind in (REFUSED, SILENT, RAW))
    failed = sum(bool(row["kind"]) for row in rows)
    return f"{found.count(EQUAL)} of {len(found)} pairs of network and size agree; {others}; not measured: {failed}"
