"""``swdc compress``: the smallest network whose metric falls by no more than asked, from a function in a file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from swdc.artifacts.compression.compress import compress
from swdc.artifacts.report.report import report as write_page
from swdc.cli.terminal.files import function_in_file
from swdc.cli.terminal.models import find_callable, parse_arguments
from swdc.cli.terminal.options import (
    BudgetName,
    FunctionArgumentOption,
    JsonOption,
    TracebackOption,
    optional,
    trials_option,
)
from swdc.cli.terminal.output import NOT_AS_ASKED, check_folder, reported
from swdc.cli.terminal.page import ReportOption, check_page
from swdc.errors import CommandError, brief
from swdc.sparsity.planning.criteria import CRITERIA

_NEEDED = ("model", "example", "data", "metric")
_TAKES = inspect.signature(compress).parameters
_DEFAULT = {name: taken.default for name, taken in _TAKES.items()}
CriterionName = StrEnum("CriterionName", {name: name for name in CRITERIA})  # type: ignore[misc]

TaskArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:FUNCTION",
        show_default=False,
        help="A function in a file (or module:function) that returns a dict with model, example, data and metric, and "
        "with whatever else swdc.compress takes, such as loss.",
    ),
]


def _help(name: str, text: str) -> str:
    return f"{text} By default that of the task, or {_DEFAULT[name]}."


OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder for all that comes out. The same call goes on there.")
]
DropOption = Annotated[
    float | None, optional("--most-drop", min=0.0, help=_help("most_drop", "How much the metric may fall."))
]
BudgetOption = Annotated[BudgetName | None, optional("--budget", help=_help("budget", "What is to be small."))]
TrialsOption = Annotated[
    int | None, trials_option(show_default=False, help=_help("trials", "How many cuts are tried."))
]
EpochsOption = Annotated[
    int | None, optional("--epochs", min=0, help=_help("epochs", "Epochs of recovery after a cut."))
]
RateOption = Annotated[float | None, optional("--rate", help=_help("rate", "Learning rate of recovery."))]
CriterionOption = Annotated[
    CriterionName | None, optional("--criterion", help=_help("criterion", "How channels are scored."))
]
RoundOption = Annotated[int | None, optional("--round-to", min=1, metavar="N", help="Keep multiples of N channels.")]
IgnoreOption = Annotated[
    list[str] | None, optional("--ignore", metavar="PATTERN", help="Module that keeps its channels; repeatable.")
]
_STORAGE = "A database that optuna takes, for several machines that see the folder; a file in it by default."
StorageOption = Annotated[str | None, optional("--storage", metavar="URL", help=_STORAGE)]
OnnxOption = Annotated[bool | None, optional("--onnx/--no-onnx", help="Write slim.onnx; it is written by default.")]
Int8Option = Annotated[bool | None, optional("--int8/--no-int8", help="Write slim.int8.onnx, too.")]
SeedOption = Annotated[int | None, optional("--seed", min=0, max=2**63 - 1, help=_help("seed", "Seed of it all."))]


def compress_task(
    task: TaskArgument,
    out: OutOption,
    most_drop: DropOption = None,
    budget: BudgetOption = None,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    rate: RateOption = None,
    criterion: CriterionOption = None,
    round_to: RoundOption = None,
    ignore: IgnoreOption = None,
    storage: StorageOption = None,
    onnx: OnnxOption = None,
    int8: Int8Option = None,
    seed: SeedOption = None,
    argument: FunctionArgumentOption = None,
    page: ReportOption = None,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Look for the smallest network whose metric falls by at most --most-drop.

    Cuts and recoveries take turns; each cut has a certificate. The folder holds the network (slim, for swdc.load),
    slim.onnx, report.json, and all that a run needs to go on after it was killed. Several machines that see the folder
    share the work if all run the same command with the same --storage.

    $ swdc compress train.py:task --out small
    $ swdc compress train.py:task --budget macs --most-drop 0.02 --int8 --out small --report small.html
    $ swdc compress train.py:task --budget latency --round-to 8 --out small

    Exit codes: 0 a smaller network was found; 1 none was good enough; 2 bad usage or input.
    """
    with reported(as_json, show_traceback) as output:
        check_folder(out, "--out", holds_program=False)
        check_page(page)
        options = {
            "most_drop": most_drop, "budget": None if budget is None else budget.value, "trials": trials,
            "epochs": epochs, "rate": rate, "criterion": None if criterion is None else criterion.value,
            "round_to": round_to, "ignore": ignore, "storage": storage, "onnx": onnx, "int8": int8, "seed": seed,
        }  # fmt: skip
        given = {name: value for name, value in options.items() if value is not None}
        with output.step(f"calling {task}"):
            made = _made(task, parse_arguments(argument or ()))
        result = compress(**{**made, **given, "folder": out, "progress": not as_json})
        document = result.to_dict()
        if page is not None:
            write_page(page, compression=document, title=f"Compression of {task}")
        output.document(document)
        output.table(task, ["", "before", "after", ""], result.rows())
        for line in result.summary():
            output.line(line)
        if page is not None:
            output.line(f"wrote {page}; a browser shows it")
        if not result.found:
            raise typer.Exit(NOT_AS_ASKED)


def _made(task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the function of a task returns; ``CommandError`` if it fails, or returns anything else."""
    in_file = task.rpartition(":")[0].endswith(".py")
    function = function_in_file(task, "a task as file.py:function") if in_file else find_callable(task)
    try:
        made = function(**arguments)
    except Exception as error:  # whatever the user's function raises
        raise CommandError(f"expected {task} to return a task, but it raises {brief(error)}") from error
    if not isinstance(made, Mapping) or not set(_NEEDED) <= set(made) <= set(_TAKES):
        found = sorted(map(str, made)) if isinstance(made, Mapping) else type(made).__name__
        raise CommandError(
            f"expected {task} to return a dict with {', '.join(_NEEDED)}, and other arguments of swdc.compress, got "
            f"{found}; return such a dict"
        )
    return dict(made)
