"""``swdc export``: an ONNX file, which is run in onnxruntime before it takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swdc.artifacts.folder.save import load_certificate
from swdc.artifacts.onnx.export import Stage, export_onnx
from swdc.cli.terminal.models import Source, is_folder, load_program
from swdc.cli.terminal.on_model import on_model
from swdc.cli.terminal.output import Output, check_file

OnnxFileOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="ONNX file to write.")]
DeployOption = Annotated[
    bool, typer.Option("--deploy", help="Rewrite the model for deployment, optimize the file, and measure its latency.")
]
OpsetOption = Annotated[
    int | None,
    typer.Option("--opset", min=1, metavar="N", show_default=False, help="Opset version; the exporter's by default."),
]


@on_model
def export(
    output: Output, source: Source, out: OnnxFileOption, opset: OpsetOption = None, deploy: DeployOption = False
) -> None:
    """Write a model as ONNX, and run the file in onnxruntime against the model before handing it out.

    If the file computes something else, it is not kept and the exit code is 2. With --deploy, batch norms are folded,
    identities are removed, and the file is optimized and compared once more. For a folder written by swdc slim, the
    file's metadata name its plan and its certificate.

    $ swdc export slim --out slim.onnx
    $ swdc export slim --deploy --out slim.onnx
    $ swdc export torchvision.models:resnet18 --input 1x3x224x224 --out r.onnx
    """
    check_file(out, "--out")
    with output.step(f"loading and tracing {source.model}"):
        program = load_program(source)
    certificate = load_certificate(source.model) if is_folder(source.model) else None
    with output.step(f"exporting {out} and running it in onnxruntime"):
        report = export_onnx(program, out, opset=opset, deploy=deploy, certificate=certificate)
    output.document({"model": source.model, **report.to_dict(), "notes": list(program.facts.notes)})
    output.notes(program.facts.notes)
    if deploy:
        columns = ["stage", "bytes", "nodes", "relative error", "ms", "not kept"]
        output.table("files, on one sample and one thread", columns, [_stage_row(stage) for stage in report.stages])
    batches = ", ".join(map(str, report.batches))
    output.line(
        f"wrote {report.path} (opset {report.opset}, {report.file_bytes:,} bytes); in onnxruntime it "
        f"differs by {report.max_relative_error:.1e} at most, at batch sizes {batches}"
    )
    output.line(f"{report.macs:,} multiply-adds in the file, {report.macs_difference:+,} to swdc count")
    for difference in report.explanation:
        output.line(f"  {difference}")


def _stage_row(stage: Stage) -> list[str | int]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    counts = ["" if number is None else number for number in (stage.file_bytes, stage.nodes)]
    error, milliseconds = shown(stage.max_relative_error, ".1e"), shown(stage.latency_ms, ".2f")
    return [stage.name, *counts, error, milliseconds, stage.reason]
