"""``swdc bench``: measurements that print a table and write it as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from swdc.bench.catalogue import CORE
from swdc.bench.compiling import NETWORKS, compare, scaling
from swdc.bench.zoo import zoo
from swdc.cli.help import help_of
from swdc.cli.options import SeedOption, TracebackOption
from swdc.cli.output import NOT_AS_ASKED, Output, reported
from swdc.cli.progress import progress_bar

Row = dict[str, Any]


class LibraryName(StrEnum):
    """Where the networks of the zoo come from."""

    core = "core"


FileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", show_default=False, help="Write the rows to this file as a JSON list."),
]
OnlyOption = Annotated[
    str | None,
    typer.Option("--only", metavar="NAME,NAME", show_default=False, help="Measure these networks only."),
]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Paired runs, of which the median counts.")]
LibraryOption = Annotated[LibraryName, typer.Option("--library", help="Which networks.")]


def register(parent: typer.Typer) -> None:
    """Add the command and its subcommands."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    for name, command in (("zoo", bench_zoo), ("compile", bench_compile), ("scaling", bench_scaling)):
        app.command(name, help=help_of(command))(command)
    parent.add_typer(app, name="bench", help="Measure what works and how fast.")


def bench_zoo(
    library: LibraryOption = LibraryName.core,
    only: OnlyOption = None,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Cut half of each group's channels of many networks with random weights: exact, smaller, and alike in ONNX?

    $ swdc bench zoo --library core --json zoo.json
    $ swdc bench zoo --only resnet18,gat
    """
    with reported(show_traceback=show_traceback) as output:
        names = [name.strip() for name in only.split(",")] if only else list(CORE)
        rows = _measured(lambda announce: zoo(names, seed, announce), len(names), json_file)
        columns = [
            "network",
            "exact",
            "error in float64",
            "parameters",
            "operations",
            "onnx",
            "seconds",
            "not met",
        ]
        output.table(f"zoo: {library.value}", columns, [_zoo_row(row) for row in rows])
        if any(row["reason"] for row in rows):
            raise typer.Exit(NOT_AS_ASKED)


def bench_compile(
    repeats: RepeatsOption = 3, json_file: FileOption = None, show_traceback: TracebackOption = False
) -> None:
    """Time capture, analysis, planning and surgery beside Torch-Pruning's building and pruning, on one thread.

    $ swdc bench compile --json compile.json
    """
    with reported(show_traceback=show_traceback) as output:
        rows = _measured(lambda announce: compare(repeats, announce), len(NETWORKS), json_file)
        _print_compile(output, rows)


def bench_scaling(
    repeats: RepeatsOption = 5, json_file: FileOption = None, show_traceback: TracebackOption = False
) -> None:
    """Time the dependency analysis of residual networks of 100 and of 1,000 blocks.

    $ swdc bench scaling
    """
    with reported(show_traceback=show_traceback) as output:
        rows = _measured(lambda announce: scaling(repeats=repeats), 2, json_file)
        cells = [[f"{row['blocks']:,}", f"{row['seconds']:.3f}", f"{row['ratio']:.1f}"] for row in rows]
        output.table("analysis of a residual network", ["blocks", "seconds", "ratio to the first"], cells)


def _measured(
    measure: Callable[[Callable[[str], None]], Iterator[Row]], total: int, json_file: Path | None
) -> list[Row]:
    """Collect rows under a progress bar; the file is written after every row, so that an interrupted run leaves it."""
    rows: list[Row] = []
    with progress_bar() as bar:
        for row in measure(lambda name: bar.show(name, len(rows), total)):
            rows.append(row)
            _write(json_file, rows)
    return rows


def _write(path: Path | None, rows: Iterable[Row]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(list(rows), indent=2) + "\n")
    os.replace(partial, path)


def _zoo_row(row: Row) -> list[str]:
    def ratio(name: str) -> str:
        before, after = row[f"{name}_before"], row[f"{name}_after"]
        return f"{before:,} -> {after:,} (-{1 - after / before:.0%})" if before else ""

    error = "" if row["max_relative_error"] is None else f"{row['max_relative_error']:.1e}"
    onnx = f"{row['onnx_max_relative_error']:.1e}" if row["onnx"] else "no"
    exact = "yes" if row["exact"] else "NO"
    counts = [ratio("parameters"), ratio("operations")]
    return [row["name"], exact, error, *counts, onnx, f"{row['seconds']:.1f}", row["reason"]]


def _print_compile(output: Output, rows: list[Row]) -> None:
    columns = ("capture", "analysis", "plan", "slim", "ours", "peer_build", "peer_prune", "peer", "ratio")
    cells = [[row["network"], *(f"{row[column]:.3f}" for column in columns)] for row in rows]
    sums = {column: sum(row[column] for row in rows) for column in columns}
    sums["ratio"] = sums["ours"] / sums["peer"]
    cells.append(["sum", *(f"{sums[column]:.3f}" for column in columns)])
    titles = ["network", *(column.replace("_", " ") for column in columns)]
    output.table("seconds; ours = analysis + plan + slim, peer = Torch-Pruning's build + prune", titles, cells)
