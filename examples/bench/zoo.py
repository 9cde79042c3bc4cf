"""``python -m examples.bench zoo`` and ``zoo-table``: which networks trace, slim and are proven equal."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from examples.bench.coverage.rows import Settings, zoo
from examples.bench.coverage.table import tables
from examples.bench.networks.catalogue import LIBRARIES, entry, names
from examples.bench.options import AgainOption, FileOption, OnlyOption, names_of
from examples.bench.running.apart import Limits
from examples.bench.running.row_files import Row, read_rows, summary, write_rows
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, reported
from swdc.ir.progress import progress_bar

LibraryName = StrEnum("LibraryName", {name: name for name in LIBRARIES})  # type: ignore[misc]  # not a literal
CORE = LibraryName("core")
LibraryOption = Annotated[LibraryName, typer.Option("--library", help="Which networks.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Time for each network.")]
MemoryOption = Annotated[float, typer.Option("--memory", min=0.5, metavar="GB", help="Memory for each network.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Networks measured at the same time.")]
PeerOption = Annotated[bool, typer.Option("--peer", help="Measure Torch-Pruning on the same networks, too.")]


def bench_zoo(
    library: LibraryOption = CORE,
    only: OnlyOption = None,
    timeout: TimeoutOption = 300.0,
    memory: MemoryOption = 16.0,
    peer: PeerOption = False,
    jobs: JobsOption = 1,
    again: AgainOption = False,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Cut half of each group's channels of many networks with random weights: exact, smaller, and alike in ONNX?

    Each network is measured in a process of its own; a failure there is a row. A file that has rows of the same
    settings and versions is resumed.

    $ python -m examples.bench zoo --library core --json zoo.json
    $ python -m examples.bench zoo --library timm --timeout 120 --json timm.json
    $ python -m examples.bench zoo --only resnet18,gat
    """
    with reported(show_traceback=show_traceback) as output:
        settings = Settings(library.value, seed, Limits(timeout, memory), peer)
        wanted = _wanted(settings.library, only)
        kept = [row for row in read_rows(json_file) if settings.same(row) and not (again and row["name"] in wanted)]
        rows = _measured(settings, wanted, kept, jobs, json_file)
        rows = [row for row in rows if row["name"] in wanted]
        _print(output, settings.library, rows)
        if any(row["kind"] for row in rows):
            raise typer.Exit(NOT_AS_ASKED)


def bench_zoo_table(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Written by zoo --json.")],
    show_traceback: TracebackOption = False,
) -> None:
    """Print the rows of zoo as tables in Markdown, side by side with the peer.

    $ python -m examples.bench zoo-table torchvision.json timm.json
    """
    with reported(show_traceback=show_traceback) as output:
        output.line(tables(row for file in files for row in read_rows(file)))


def _wanted(library: str, only: str | None) -> list[str]:
    chosen = names_of(only, names(library))
    for name in chosen:
        entry(name, library)  # refuses unknown names
    return chosen


def _measured(settings: Settings, wanted: list[str], known: list[Row], jobs: int, json_file: Path | None) -> list[Row]:
    """Measure the networks that have no row, under a progress bar; the file is written after every row."""
    order = {name: place for place, name in enumerate(names(settings.library))}
    found = {row["name"]: row for row in known}
    done = {name for name, row in found.items() if settings.complete(row)}
    missing = [name for name in wanted if name not in done]
    total = len(done) + len(missing)
    with progress_bar() as bar:
        for row in zoo(missing, settings, found.copy(), jobs, lambda name: bar.show(name, len(done), total)):
            found[row["name"]] = row
            done.add(row["name"])
            write_rows(json_file, sorted(found.values(), key=lambda row: order.get(row["name"], len(order))))
    return list(found.values())


def _print(output: Output, library: str, rows: list[Row]) -> None:
    columns = ["network", "exact", "error in float64", "parameters", "operations", "onnx", "seconds", "not met"]
    output.table(f"zoo: {library}", columns, [_cells(row) for row in rows])
    exact = sum(row["exact"] for row in rows)
    kinds = ", ".join(f"{kind or 'all holds'}: {number}" for kind, number in summary(rows).items())
    output.line(f"{exact} of {len(rows)} exact; {kinds}")


def _cells(row: Row) -> list[str]:
    def ratio(name: str) -> str:
        before, after = row[f"{name}_before"], row[f"{name}_after"]
        return f"{before:,} -> {after:,} (-{1 - after / before:.0%})" if before else ""

    error = "" if row["max_relative_error"] is None else f"{row['max_relative_error']:.1e}"
    onnx = f"{row['onnx_max_relative_error']:.1e}" if row["onnx"] == "ok" else row["onnx"] or "no"
    exact = "yes" if row["exact"] else "NO"
    counts = [ratio("parameters"), ratio("operations")]
    seconds = f"{sum(row['seconds'].values()):.1f}"
    return [row["name"], exact, error, *counts, onnx, seconds, row["reason"]]
