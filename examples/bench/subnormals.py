"""``python -m examples.bench subnormals``: what weights that have decayed to subnormal numbers cost."""

from __future__ import annotations

from typing import Annotated

import typer

from examples.bench.measurements.subnormals import subnormals
from examples.bench.options import FileOption, RepeatsOption
from examples.bench.running.collect import collect
from examples.bench.running.row_files import Row
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import reported

NetworkOption = Annotated[str, typer.Option("--network", metavar="NAME", help="One of torchvision's for images.")]
SideOption = Annotated[int, typer.Option("--side", min=1, help="Height and width of the image.")]
ShareOption = Annotated[float, typer.Option("--share", min=0.0, max=1.0, help="How much of each layer has decayed.")]


def bench_subnormals(
    network: NetworkOption = "vgg16",
    side: SideOption = 64,
    share: ShareOption = 0.9,
    repeats: RepeatsOption = 5,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Time a network whose smallest weights have decayed to 1e-40, before and after these are flushed to zero.

    In onnxruntime and in eager PyTorch, on one thread and one image, in runs that take turns.

    $ python -m examples.bench subnormals --json subnormals.json
    $ python -m examples.bench subnormals --network resnet18 --side 224
    """
    with reported(show_traceback=show_traceback) as output:
        rows = collect(lambda announce: subnormals(network, side, share, repeats, seed, announce), 2, json_file)
        columns = ["runtime", "subnormal ms", "flushed ms", "speed-up", "largest difference of the logits"]
        title = f"{network} at {side} x {side}, {rows[0]['subnormal_weights']:,} weights of 1e-40"
        output.table(title, columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    times = (f"{row[column]:,.1f}" for column in ("before_ms", "after_ms", "speedup"))
    return [row["runtime"], *times, f"{row['max_difference']:.1e}"]
