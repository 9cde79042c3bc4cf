"""``swdc quantize``: an int8 file that onnxruntime computes about as well as a float file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from swdc.artifacts.quantization.quantize import METHODS, quantize_onnx
from swdc.cli.terminal.models import find_callable
from swdc.cli.terminal.options import JsonOption, TracebackOption
from swdc.cli.terminal.output import check_file, check_folder, reported
from swdc.errors import CommandError, told_as

MethodName = StrEnum("MethodName", {name: name for name in METHODS})  # type: ignore[misc]
"""How the ranges of activations are chosen."""
MINMAX = MethodName("minmax")

FloatArgument = Annotated[
    Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="A float file, as swdc export writes it.")
]
BatchesOption = Annotated[
    str,
    typer.Option(
        "--batches",
        metavar="MODULE:FUNCTION",
        show_default=False,
        help="Returns some batches of inputs: tensors, tuples of them, or dicts by the names of the file's inputs.",
    ),
]
Int8Option = Annotated[Path, typer.Option("--out", metavar="FILE", help="Int8 file to write.", show_default=False)]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="MODULE:FUNCTION",
        help="Takes a function that runs a file on inputs, and returns a number: larger is better. By default it is "
        "the agreement with the float file.",
    ),
]
DropOption = Annotated[float, typer.Option("--most-drop", min=0.0, help="By how much the metric may fall.")]
KeepOption = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="PATTERN", help="Nodes that stay in float (shell patterns); may be repeated."),
]
CalibrationOption = Annotated[MethodName, typer.Option("--calibration", help="How ranges of activations are chosen.")]
RangeOption = Annotated[
    bool | None,
    typer.Option(
        "--reduce-range/--full-range",
        show_default=False,
        help="Weights of seven bits, or of eight. By default seven, if eight are not good enough on this processor.",
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="Keep what was measured there; a run that was killed goes on."),
]


def quantize(
    file: FloatArgument,
    batches: BatchesOption,
    out: Int8Option,
    metric: MetricOption = None,
    most_drop: DropOption = 0.01,
    keep: KeepOption = None,
    calibration: CalibrationOption = MINMAX,
    reduce_range: RangeOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Write an int8 file whose metric falls by no more than --most-drop.

    Ranges are found by running the float file on batches of your data. If the metric falls too far, the layers that add
    the largest error stay in float, as few as are needed. A file that is not good enough is not written, and the exit
    code is 2.

    $ swdc quantize slim.onnx --batches my_data:batches --out int8.onnx
    $ swdc quantize slim.onnx --batches my_data:batches --metric my_data:accuracy --most-drop 0.005 --out int8.onnx
    """
    with reported(as_json, show_traceback) as output:
        check_file(out, "--out")
        if state is not None:
            check_folder(state, "--state", holds_program=False)
        given, judge = find_callable(batches), None if metric is None else find_callable(metric)
        with output.step(f"quantising {file} and running the files in onnxruntime"):
            with told_as(CommandError, f"{batches} as a function that returns batches", "mend it"):
                data = given()
            report = quantize_onnx(
                file, data, out, judge, most_drop, keep or (), calibration.value, reduce_range, state
            )
        output.document({"float": str(file), **report.to_dict()})
        output.table(
            f"on {report.samples} samples and one thread",
            ["file", "score", "bytes", "ms"],
            [
                ["float", f"{report.float_score:.4f}", f"{report.float_bytes:,}", f"{report.float_latency_ms:.3f}"],
                ["int8", f"{report.score:.4f}", f"{report.file_bytes:,}", f"{report.latency_ms:.3f}"],
            ],
        )
        bits = "seven" if report.reduced_range else "eight"
        output.line(f"wrote {report.path}: {len(report.quantized)} layers in int8, with weights of {bits} bits")
        for name, error in report.in_float.items():
            output.line(f"  {name} stays in float; in int8 it adds a relative error of {error:.1e}")
