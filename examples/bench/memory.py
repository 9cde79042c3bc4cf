"""``python -m examples.bench scale`` and ``stream``: models and checkpoints that are larger than the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from examples.bench.measurements.memory import stream
from examples.bench.measurements.scale import MODELS, scale
from examples.bench.options import FileOption, OnlyOption, names_of
from examples.bench.running.collect import collect
from examples.bench.running.row_files import Row
from swdc.cli.terminal.options import TracebackOption
from swdc.cli.terminal.output import reported

SizeOption = Annotated[float, typer.Option("--gigabytes", min=0.0, help="Size of the checkpoint.")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", show_default=False, help="Where to make room for the checkpoints."),
]

SCALE = (
    "build", "capture", "analysis", "plan", "depth", "count", "slim", "seconds", "cpu_seconds", "torch_mb", "peak_mb",
)  # fmt: skip
"""What the table of ``scale`` shows of a row beside its parameters."""
STREAM = {
    "checkpoint_mb": "checkpoint", "slim_mb": "slim", "seconds": "seconds", "torch_mb": "import torch",
    "swdc_mb": "import swdc", "peak_mb": "peak", "over_torch_mb": "peak over import torch",
}  # fmt: skip
"""What the table of ``stream`` shows of a row, and the titles of its columns."""


def bench_scale(only: OnlyOption = None, json_file: FileOption = None, show_traceback: TracebackOption = False) -> None:
    """Trace, plan and count language models of the shape of Llama 70B, without weights, on one thread.

    $ python -m examples.bench scale --json scale.json
    $ python -m examples.bench scale --only llama
    """
    with reported(show_traceback=show_traceback) as output:
        names = names_of(only, MODELS)
        rows = collect(lambda announce: scale(names, announce), len(names), json_file)
        columns = ["model", "parameters", "after", "prunable", *(column.replace("_", " ") for column in SCALE)]
        output.table("on the meta device; seconds, and megabytes of the process", columns, [_cells(r) for r in rows])


def bench_stream(
    gigabytes: SizeOption = 1.5,
    folder: FolderOption = None,
    json_file: FileOption = None,
    show_traceback: TracebackOption = False,
) -> None:
    """Slim a sharded checkpoint of random weights tensor by tensor, and tell the memory that it takes.

    $ python -m examples.bench stream --gigabytes 1.5
    """
    with reported(show_traceback=show_traceback) as output:
        rows = collect(lambda announce: stream(gigabytes, folder, announce), 1, json_file)
        output.table("megabytes", [*STREAM.values()], [[f"{row[column]:,.0f}" for column in STREAM] for row in rows])


def _cells(row: Row) -> list[str | int]:
    counts = row["model"], row["parameters"], row["parameters_after"], f"{row['prunable']:.2%}"
    return [*counts, *(f"{row[column]:,.1f}" for column in SCALE)]
