"""``swdc export``: an ONNX file that was run before it is handed out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swdc.cli.help import help_of
from swdc.cli.models import Source, load_program
from swdc.cli.options import (
    ArgumentOption,
    InputOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    TracebackOption,
    WeightsOption,
)
from swdc.cli.output import reported
from swdc.cli.paths import check_file
from swdc.onnx import export_onnx

OnnxFileOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="ONNX file to write.")]
OpsetOption = Annotated[
    int | None,
    typer.Option("--opset", min=1, metavar="N", show_default=False, help="Opset version; without it the exporter's."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", help=help_of(export))(export)


def export(
    source: ModelArgument,
    out: OnnxFileOption,
    opset: OpsetOption = None,
    inputs: InputOption = None,
    arguments: ArgumentOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Write a model as ONNX, and run the file in onnxruntime against the model before handing it out.

    A file that computes something else is not left behind; the exit code is then 2.

    $ swdc export slim --out slim.onnx
    $ swdc export torchvision.models:resnet18 --input 1x3x224x224 --out r.onnx
    """
    with reported(as_json, show_traceback) as output:
        check_file(out, "--out")
        with output.step(f"loading and tracing {source}"):
            program = load_program(Source(source, inputs or (), arguments or (), weights, seed))
        with output.step(f"exporting {out} and running it in onnxruntime"):
            report = export_onnx(program, out, opset=opset)
        output.document({"model": source, **report.to_dict(), "notes": list(program.facts.notes)})
        output.notes(program.facts.notes)
        batches = ", ".join(map(str, report.batches))
        output.line(
            f"wrote {report.path} (opset {report.opset}, {report.file_bytes:,} bytes); in onnxruntime it "
            f"differs by {report.max_relative_error:.1e} at most, at batch sizes {batches}"
        )
