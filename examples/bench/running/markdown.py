"""Rows as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table with a line for each of ``lines``, whose cells stand in the order of the columns."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *lines])
