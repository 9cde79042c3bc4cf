"""``python -m tests.fuzzing``: random networks under random plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from swdc.cli.terminal.on_model import help_of
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, reported
from swdc.ir.progress import progress_bar
from tests.fuzzing.report import Report, fuzz, summary

NumberOption = Annotated[int, typer.Option("--n", min=1, help="How many networks.")]
ReportOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", show_default=False, help="Write the report here, and resume from it."),
]


def fuzz_networks(
    number: NumberOption = 1000,
    seed: SeedOption = 0,
    json_file: ReportOption = None,
    show_traceback: TracebackOption = False,
) -> None:
    """Build random networks and cut random channels: does the slim program always compute what the masked one does?

    Network k is drawn with the seed plus k. A network that fails is made smaller and printed; the exit code is then 1.

    $ python -m tests.fuzzing --n 10000 --seed 0 --json fuzz.json
    """
    with reported(show_traceback=show_traceback) as output:
        with progress_bar() as bar:
            report = fuzz(number, seed, json_file, lambda done, failed: bar.show(f"{failed} failed", done, number))
        _print(output, report)
        if report.failures:
            raise typer.Exit(NOT_AS_ASKED)


def _print(output: Output, report: Report) -> None:
    output.table("fuzz", ["", "found"], summary(report))
    for failure in report.failures:
        if "graph" in failure:
            _print_failure(output, failure)


def _print_failure(output: Output, failure: dict[str, Any]) -> None:
    output.line(f"seed {failure['seed']} fails at {failure['stage']}: {failure['error']}", style="bold red")
    output.line(f"  as small as it gets: {failure['spec']}")
    output.line(f"  kept channels: {failure['kept']}")
    for line in failure["graph"]:
        output.line(f"    {line}")


app = typer.Typer(
    rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.command(help=help_of(fuzz_networks))(fuzz_networks)

if __name__ == "__main__":
    app()
