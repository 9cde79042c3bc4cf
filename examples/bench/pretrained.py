"""``python -m examples.bench pretrained`` and ``pretrained-table``: slim models in classes of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from examples.bench.coverage.rows import Settings
from examples.bench.measurements.pretrained import EQUAL, RAW, REFUSED, SILENT, WAYS, measure_pretrained, reasons
from examples.bench.networks.entry import known
from examples.bench.networks.pretrained import names
from examples.bench.options import AgainOption, FileOption, OnlyOption, names_of
from examples.bench.running.apart import Limits
from examples.bench.running.collect import collect
from examples.bench.running.markdown import markdown
from examples.bench.running.row_files import Row, read_rows
from examples.bench.running.rows_apart import rows_apart
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, reported

LIBRARY = "transformers"
COLUMNS = ("class", *WAYS, "tokens")
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Time for each class.")]


def bench_pretrained(
    only: OnlyOption = None,
    timeout: TimeoutOption = 600.0,
    again: AgainOption = False,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Cut channels and layers of classes of transformers: which of them can say it, and compute the same then?

    What save_pretrained writes is loaded by the class alone, and compared with the masked model in float64; so are
    the tokens that both generate with a cache. A file that has rows is resumed.

    $ python -m examples.bench pretrained --json pretrained.json
    """
    with reported(show_traceback=show_traceback) as output:
        wanted = [known(name, names()) for name in names_of(only, names())]
        settings = Settings(LIBRARY, seed, Limits(timeout, 16.0))
        found = {row["name"]: row for row in read_rows(json_file) if settings.same(row) and not again}
        rows = collect(
            lambda announce: rows_apart(measure_pretrained, wanted, found, settings, announce), len(wanted), json_file
        )
        output.table("slim models in classes of transformers", list(COLUMNS), [_cells(row) for row in rows])
        output.line(_summary(rows))
        if any(row["kind"] or reasons(row, (SILENT, RAW)) for row in rows):
            raise typer.Exit(NOT_AS_ASKED)


def bench_pretrained_table(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by pretrained --json.")],
    show_traceback: TracebackOption = False,
) -> None:
    """Print the rows of pretrained in Markdown: a table, and what is refused with the message.

    $ python -m examples.bench pretrained-table pretrained.json
    """
    with reported(show_traceback=show_traceback) as output:
        rows = read_rows(file)
        output.line(f"{_summary(rows)}\n\n{markdown(COLUMNS, map(_cells, rows))}\n")
        refused = ([row["class"], way, why] for row in rows for way, why in reasons(row).items())
        output.line(markdown(("class", "way", "message"), refused))


def _cells(row: Row) -> list[str]:
    tokens = {row[way]["tokens"] for way in WAYS if row.get(way, {}).get("verdict") == EQUAL} - {None}
    told = "none" if not tokens else "same" if tokens == {True} else "others"
    return [str(row.get("class", row["name"])), *(_cell(row, way) for way in WAYS), told]


def _cell(row: Row, way: str) -> str:
    found = row.get(way)
    if found is None:
        return str(row["kind"])
    if found["verdict"] != EQUAL:
        return str(found["verdict"])
    return f"-{1 - found['parameters_after'] / found['parameters_before']:.0%}"


def _summary(rows: list[Row]) -> str:
    """Return how many classes compute the same in each way, and what there is in the others."""
    parts = []
    for way in WAYS:
        found = [row[way]["verdict"] for row in rows if way in row]
        others = "".join(f", {kind}: {found.count(kind)}" for kind in (REFUSED, SILENT, RAW) if kind in found)
        parts.append(f"{way}: {found.count(EQUAL)} of {len(rows)} equal{others}")
    return "; ".join(parts)
