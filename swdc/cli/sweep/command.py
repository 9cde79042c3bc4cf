"""``swdc sweep``: which bounds of SWD's coefficient are best."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from swdc.artifacts.report.report import report as write_page
from swdc.artifacts.report.sweep_document import SweepDocument
from swdc.cli.sweep.cells import Space, parse_values
from swdc.cli.sweep.experiments import ACCURACY, EXPERIMENTS, Experiment
from swdc.cli.sweep.optuna_study import SAMPLERS, Row, Study, open_study
from swdc.cli.sweep.picture import draw_heat_maps
from swdc.cli.sweep.sweep import sweep
from swdc.cli.sweep.workers import workers
from swdc.cli.terminal.models import parse_arguments
from swdc.cli.terminal.options import FunctionArgumentOption, JsonOption, TracebackOption, optional, trials_option
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, check_file, reported
from swdc.cli.terminal.page import ReportOption, check_page
from swdc.errors import CommandError
from swdc.ir.atomic_files import write_whole
from swdc.ir.packages import package
from swdc.ir.progress import progress_bar

INTERRUPTED = 130
SamplerName = StrEnum("SamplerName", {name: name for name in SAMPLERS})  # type: ignore[misc]
"""Which cells are run."""

ExperimentArgument = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        show_default=False,
        help=f"file.py:function, called with a_min=, a_max=, target= and seed=, which returns a number or numbers by "
        f"name; or one of {', '.join(EXPERIMENTS)} (those of swdc demo).",
    ),
]
_VALUES = "0.1,1,10, or the powers of ten in 1e-4:1e-1."
LowOption = Annotated[str, typer.Option("--a-min", metavar="VALUES", help=_VALUES)]
HighOption = Annotated[str, typer.Option("--a-max", metavar="VALUES", help=_VALUES)]
TargetOption = Annotated[str, typer.Option("--target", metavar="VALUES", help="Shares to remove, such as 0.75,0.9.")]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, max=10_000, metavar="N", help="Run every cell with seeds 0 to N-1.")
]
SamplerOption = Annotated[
    SamplerName, typer.Option("--sampler", help="grid: every combination once. tpe: --trials cells within the bounds.")
]
TrialsOption = Annotated[int, trials_option(help="How many cells tpe runs, in all.")]
MetricOption = Annotated[
    str | None, optional("--metric", metavar="NAME", help="The result that counts; accuracy, or the only.")
]
MinimizeOption = Annotated[bool, typer.Option("--minimize", help="The least result is best, as for a loss.")]
StorageOption = Annotated[
    str, typer.Option("--storage", metavar="FILE|URL", help="A file for SQLite, or any URL that optuna takes.")
]
StudyOption = Annotated[
    str | None, optional("--study", metavar="NAME", help="Name of the study; the experiment's name.")
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes that run cells.")]
CsvOption = Annotated[Path | None, optional("--csv", metavar="FILE", help="Write the cells to this file.")]
PictureOption = Annotated[
    Path | None, optional("--picture", metavar="FILE", help="Draw heat maps (PNG) over a_min and a_max.")
]


def sweep_bounds(
    experiment: ExperimentArgument,
    a_min: LowOption = "1e-4:1e-1",
    a_max: HighOption = "1e1:1e4",
    target: TargetOption = "0.9",
    seeds: SeedsOption = 1,
    sampler: SamplerOption = SamplerName["grid"],
    trials: TrialsOption = 30,
    argument: FunctionArgumentOption = None,
    metric: MetricOption = None,
    minimize: MinimizeOption = False,
    storage: StorageOption = "sweep.db",
    study: StudyOption = None,
    processes: WorkersOption = 1,
    csv_file: CsvOption = None,
    picture: PictureOption = None,
    page: ReportOption = None,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Train once for every combination of a_min, a_max and target, and tell which is best.

    The cells are trials of an optuna study. The same command goes on with a study: finished cells are not run again,
    interrupted and failed ones are. On several machines, give the URL of one database to all of them.

    $ swdc sweep resnet20 --arg epochs=4 --a-min 0.1,1 --a-max 1e3:1e5 --picture sweep.png
    $ swdc sweep train.py:run --target 0.9,0.99 --workers 2 --csv sweep.csv --report sweep.html
    $ swdc sweep train.py:run --sampler tpe --trials 40 --storage postgresql://host/sweeps

    Exit codes: 0 every cell is finished; 1 some failed; 2 bad usage or input; 130 interrupted.
    """
    with reported(as_json, show_traceback) as output:
        check_file(csv_file, "--csv")
        check_file(picture, "--picture")
        check_page(page)
        if picture is not None:
            _check_png(picture)
            package("matplotlib.figure", "sweep")
        space = Space(
            parse_values(a_min, "--a-min"), parse_values(a_max, "--a-max"), parse_values(target, "--target"),
            tuple(range(seeds)),
        )  # fmt: skip
        chosen = Experiment(experiment, metric, parse_arguments(argument or ()))
        opened = open_study(
            storage, study or experiment, space, chosen, sampler=sampler.value, trials=trials, minimize=minimize
        )
        _run(output, opened, chosen, processes, as_json)
        rows, failed = opened.rows(), opened.failed()
        if csv_file is not None:
            _write(csv_file, rows, failed)
        if picture is not None and rows:
            _picture(picture, chosen, rows)
        document = SweepDocument(
            study or experiment, storage, chosen.metric_of(rows[0].results) if rows else metric or ACCURACY,
            opened.best(), [_flat(row) for row in rows], [_flat(row) for row in failed],
        )  # fmt: skip
        if page is not None:
            write_page(page, sweep=document.to_dict(), title=f"Sweep of {experiment}")
        output.document(document.to_dict())
        _print(output, chosen.name, document, rows, failed)
        if failed:
            raise typer.Exit(NOT_AS_ASKED)


def _run(output: Output, study: Study, experiment: Experiment, processes: int, hidden: bool) -> None:
    """Run what is missing; an interruption ends the command with its own code."""
    try:
        with progress_bar(hidden) as bar:
            sweep(study, workers(experiment, processes), bar.show)
    except KeyboardInterrupt as error:
        output.error(f"interrupted after {study.done()} of {study.total} cells; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from error


def _flat(row: Row) -> dict[str, Any]:
    return {**row.cell.params(), **row.results, **({"reason": row.reason} if row.reason else {})}


def _write(path: Path, rows: Sequence[Row], failed: Sequence[Row]) -> None:
    flat = [_flat(row) for row in (*rows, *failed)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_whole(path, text.getvalue())


def _check_png(path: Path) -> None:
    """Raise ``CommandError`` now, not after a long sweep, if a picture could not be drawn under a name."""
    if path.suffix.lower() != ".png":
        raise CommandError(f"expected --picture as a file that ends in .png, got {path}; name it {path.stem}.png")


def _picture(path: Path, experiment: Experiment, rows: Sequence[Row]) -> None:
    """Draw the number that counts, and the change that the removal made where the results have it."""
    metric = experiment.metric_of(rows[0].results)
    names = [metric, *(name for name in ("change",) if name in rows[0].results and name != metric)]
    columns = {name: {row.cell: row.results[name] for row in rows if name in row.results} for name in names}
    draw_heat_maps(path, experiment.name, columns)


def _print(output: Output, title: str, document: SweepDocument, rows: Sequence[Row], failed: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row.results))
    cells = [
        [*(f"{row.cell.params()[name]:g}" for name in ("target", "a_max", "a_min", "seed")), *_numbers(row, names)]
        for row in rows
    ]
    output.table(title, ["target", "a_max", "a_min", "seed", *names], cells)
    for each in document.best:
        seeds = f", mean of {each.seeds} seeds" if each.seeds > 1 else ""
        where = f"a_min {each.a_min:g}, a_max {each.a_max:g}"
        output.line(f"target {each.target:g}: best {document.metric} {each.value:.5g} at {where}{seeds}")
    output.notes(f"{row.cell} failed: {row.reason}" for row in failed)


def _numbers(row: Row, names: Sequence[str]) -> list[str]:
    return [f"{row.results[name]:.5g}" if name in row.results else "" for name in names]
