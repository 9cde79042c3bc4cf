"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

FileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", show_default=False, help="Write the rows to this file as a JSON list."),
]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Paired runs, of which the median counts.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Measure again the networks that the file has rows of.")]
OnlyOption = Annotated[
    str | None,
    typer.Option("--only", metavar="NAME,NAME", show_default=False, help="Measure these networks only."),
]


def names_of(only: str | None, every: Iterable[str]) -> list[str]:
    """Return the names that the text of ``--only`` lists, or all names if it is not given."""
    return list(every) if only is None else [name.strip() for name in only.split(",")]


def network_option(networks: Iterable[str]) -> Any:
    """Return the option that chooses among networks."""
    text = f"One of {', '.join(networks)}; may be repeated. All."
    return typer.Option("--network", metavar="NAME", show_default=False, help=text)


def batch_option(batches: Iterable[int], least: int = 1) -> Any:
    """Return the option for batch sizes of at least ``least``, which are ``batches`` if it is not given."""
    text = f"Batch size; may be repeated. {' and '.join(map(str, batches))}."
    return typer.Option("--batch", min=least, metavar="N", show_default=False, help=text)
