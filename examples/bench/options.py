"""Options that several benches share."""

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
AgainOption = Annotated[bool, typer.Option("--again", help="Measure again what the file has rows of.")]
BatchOption = Annotated[
    list[int] | None,
    typer.Option("--batch", min=1, metavar="N", show_default=False, help="Batch size; may be repeated. 1 and 16."),
]


def network_option(networks: Iterable[str]) -> Any:
    """Return the option that chooses among networks."""
    text = f"One of {', '.join(networks)}; may be repeated. All."
    return typer.Option("--network", metavar="NAME", show_default=False, help=text)
