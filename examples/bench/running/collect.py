"""Collecting the rows of a measurement while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from examples.bench.running.row_files import Row, write_rows
from swdc.ir.progress import progress_bar


def collect(measure: Callable[[Callable[[str], None]], Iterator[Row]], total: int, json_file: Path | None) -> list[Row]:
    """Return all rows of a measurement, ``total`` of them, which it yields under a progress bar.

    ``measure`` is called with the function that says what is being measured. The file is written after every row, so
    that an interrupted run leaves what it has.
    """
    rows: list[Row] = []
    with progress_bar() as bar:
        for row in measure(lambda text: bar.show(text, len(rows), total)):
            rows.append(row)
            write_rows(json_file, rows)
    return rows
