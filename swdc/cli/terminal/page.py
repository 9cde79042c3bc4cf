"""The option ``--report`` of commands, which writes a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swdc.artifacts.report.report import check_report_place
from swdc.cli.terminal.output import check_file

ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        show_default=False,
        help="Also write a page that shows the result, in one file.",
    ),
]


def check_page(page: Path | None) -> None:
    """Raise an error of swdc now, not after long work, if a page could not be written to a path."""
    check_file(page, "--report")
    if page is not None:
        check_report_place(page)
