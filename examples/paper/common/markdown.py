"""Tables in Markdown: the rows of an experiment with the paper's values beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from common.rows import Row

Cell = Callable[[Sequence[Row]], str]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    rule = [":--", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def pivot(rows: Sequence[Row], corner: str, down: Mapping[str, Any], across: Mapping[str, Any], cell: Cell) -> str:
    """Return a table of rows grouped twice.

    ``down`` and ``across`` give for each title the values that a row has; ``cell`` gets the rows of all seeds.
    """
    lines = []
    for title, values in down.items():
        own = [row for row in rows if _has(row, values)]
        lines.append([title, *(cell([row for row in own if _has(row, each)]) for each in across.values())])
    return table([corner, *across], lines)


def _has(row: Row, values: Mapping[str, Any]) -> bool:
    return all(row.get(name) == value for name, value in values.items())


def mean(rows: Sequence[Row], name: str = "accuracy", digits: int = 2) -> str:
    """Return the mean over the seeds, with its deviation where there are several; empty where there is nothing."""
    found = [row[name] for row in rows if row.get(name) is not None]
    if not found:
        return "diverged" if any("diverged" in row for row in rows) else ""
    spread = f" ± {stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{fmean(found):.{digits}f}{spread}"


def beside(ours: str, papers: Sequence[Row], name: str = "accuracy") -> str:
    """Return our value with the paper's in brackets."""
    theirs = mean(papers, name)
    return f"{ours} ({theirs})" if ours and theirs else ours
