"""``python -m examples.bench counts`` and ``counts-table``: multiply-adds beside the field's own counts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from examples.bench.measurements.counts import LIBRARIES, Case, cases, counts
from examples.bench.networks.entry import known
from examples.bench.options import FileOption, OnlyOption, names_of
from examples.bench.running.collect import collect
from examples.bench.running.markdown import markdown
from examples.bench.running.row_files import Row, read_rows
from swdc.cli.terminal.options import TracebackOption
from swdc.cli.terminal.output import Output, reported

LibraryName = StrEnum("LibraryName", {name: name for name in LIBRARIES})  # type: ignore[misc]  # not a literal
FIRST = LibraryName(LIBRARIES[0])
LibraryOption = Annotated[LibraryName, typer.Option("--library", help="Which networks.")]
COLUMNS = ("network", "parameters", "multiply-adds", "published", "to published", "torch's counter", "to torch's")


def bench_counts(
    library: LibraryOption = FIRST,
    only: OnlyOption = None,
    json_file: FileOption = None,
    show_traceback: TracebackOption = False,
) -> None:
    """Count the multiply-adds of many networks beside torch's own counter and what torchvision publishes (_ops).

    Networks are counted on the meta device where they run there. The detectors of torchvision run on values, in
    minutes, so that they are a library of their own.

    $ python -m examples.bench counts --json torchvision.json
    $ python -m examples.bench counts --library timm --json timm.json
    """
    with reported(show_traceback=show_traceback) as output:
        chosen = _chosen(library.value, only)
        rows = collect(lambda announce: counts(library.value, chosen, announce), len(chosen), json_file)
        output.table(f"multiply-adds: {library.value}", list(COLUMNS), [_cells(row) for row in rows])
        _print_summary(output, rows)


def bench_counts_table(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Written by counts --json.")],
    show_traceback: TracebackOption = False,
) -> None:
    """Print the rows of counts as tables in Markdown.

    $ python -m examples.bench counts-table torchvision.json timm.json
    """
    with reported(show_traceback=show_traceback) as output:
        for file in files:
            rows = read_rows(file)
            table = markdown(COLUMNS, map(_cells, rows))
            output.line(f"## {file.stem}\n\n{_summary(rows)}\n\n{table}\n")


def _chosen(library: str, only: str | None) -> list[Case]:
    found = {case.name: case for case in cases(library)}
    return [found[known(name, found)] for name in names_of(only, found)]


def _cells(row: Row) -> list[str]:
    if row["reason"]:
        return [row["name"], "", row["reason"], "", "", "", ""]
    number = {name: "" if row[name] is None else f"{row[name]:,}" for name in ("macs", "published", "torch")}
    ratio = {name: f"{row[name]:.4f}" if row[name] else "" for name in ("to_published", "to_torch")}
    return [
        row["name"], f"{row['parameters']:,}", number["macs"], number["published"], ratio["to_published"],
        number["torch"], ratio["to_torch"],
    ]  # fmt: skip


def _summary(rows: list[Row]) -> str:
    """Return how many rows agree with each of the other counts, and how many networks were not counted."""
    parts = []
    for name, bound, text in (("to_published", 0.005, "published"), ("to_torch", 0.01, "torch's counter")):
        ratios = [row[name] for row in rows if row.get(name)]
        within = sum(abs(ratio - 1) <= bound for ratio in ratios)
        parts += [f"within {bound:.1%} of {text}: {within} of {len(ratios)}"] if ratios else []
    failed = sum(bool(row["reason"]) for row in rows)
    return "; ".join([*parts, *([f"not counted: {failed}"] if failed else [])])


def _print_summary(output: Output, rows: list[Row]) -> None:
    output.line(_summary(rows))
