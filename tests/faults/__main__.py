"""``python -m tests.faults``: kills at random, and folders that were changed."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import torch
import typer

from swdc.cli.terminal.on_model import help_of
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, reported
from swdc.ir.progress import progress_bar
from tests.faults.folders import mutate
from tests.faults.kills import JOBS, kill_job

JobName = StrEnum("JobName", {name: name for name in JOBS})  # type: ignore[misc]
JobOption = Annotated[list[JobName] | None, typer.Option("--job", show_default=False, help="Kill these jobs only.")]
KillsOption = Annotated[int, typer.Option("--n", min=1, help="How often each job is killed.")]
FoldersOption = Annotated[int, typer.Option("--n", min=1, help="How many folders are changed.")]

app = typer.Typer(
    rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def kills(
    number: KillsOption = 300, job: JobOption = None, seed: SeedOption = 0, show_traceback: TracebackOption = False
) -> None:
    """Kill save, export, streaming, cache, sweep and compress at random times: is anything lost, or left behind?

    After each kill, what is there must be whole, the old or the new. After the next run, no litter may remain. The exit
    code is 1 if anything fell.

    $ python -m tests.faults kills --n 300
    """
    with reported(show_traceback=show_traceback) as output:
        torch.set_num_threads(1)
        names = [each.value for each in job] if job else list(JOBS)
        with progress_bar() as bar:
            found = [kill_job(name, number, seed, partial(bar.show, name, total=number)) for name in names]
        rows: list[list[str | int]] = [[each.job, each.runs, each.at_work, len(each.fallen)] for each in found]
        output.table("kills", ["job", "runs", "killed at work", "fallen"], rows)
        _end(output, [problem for each in found for problem in each.fallen])


def folders(number: FoldersOption = 1000, seed: SeedOption = 0, show_traceback: TracebackOption = False) -> None:
    """Change saved folders at random: is each refused with ArtifactError?

    A folder also falls if loading takes ten seconds or 1 GB. Folder k is drawn with the seed plus k. The exit code is 1
    if anything fell.

    $ python -m tests.faults folders --n 1000
    """
    _mutated(number, seed, show_traceback, forged=False)


def forgeries(number: FoldersOption = 1000, seed: SeedOption = 0, show_traceback: TracebackOption = False) -> None:
    """Change saved folders at random and write all hashes anew: is each refused, or a program that can be used?

    Hashes find damage, and not a forger. What loads is another program, or the same one with another note or date: it
    has to be explained, saved and loaded again without a raw error. The exit code is 1 if anything fell.

    $ python -m tests.faults forgeries --n 1000
    """
    _mutated(number, seed, show_traceback, forged=True)


def _mutated(number: int, seed: int, show_traceback: bool, *, forged: bool) -> None:
    with reported(show_traceback=show_traceback) as output:
        torch.set_num_threads(1)
        with progress_bar() as bar:
            found = mutate(number, seed, forged=forged, announce=partial(bar.show, "folders", total=number))
        rows: list[list[str | int]] = [[verdict, count] for verdict, count in found.verdicts.most_common()]
        output.table("forged folders" if forged else "changed folders", ["verdict", "folders"], rows)
        output.line(f"the slowest took {found.seconds:.1f} s, the largest grew by {found.grown / 1e6:.0f} MB")
        _end(output, found.fallen)


def _end(output: Output, fallen: list[str]) -> None:
    for problem in fallen:
        output.line(problem, style="bold red")
    output.line(f"{len(fallen)} fell")
    if fallen:
        raise typer.Exit(NOT_AS_ASKED)


for command in (kills, folders, forgeries):
    app.command(help=help_of(command))(command)

if __name__ == "__main__":
    app()
