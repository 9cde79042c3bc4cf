"""``swdc export``: a file for ONNX or torch.export, which is run before it takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swdc.artifacts.folder.save import load_certificate
from swdc.artifacts.onnx.export import OnnxReport, Stage, export_onnx
from swdc.artifacts.torch_export.export import SUFFIX, ExportReport
from swdc.artifacts.torch_export.export import export as to_torch
from swdc.cli.terminal.models import Source, is_folder, load_program
from swdc.cli.terminal.on_model import on_model
from swdc.cli.terminal.output import Output, check_file
from swdc.errors import CommandError

FileOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write: ONNX, or .pt2 for PyTorch.")]
DeployOption = Annotated[
    bool,
    typer.Option("--deploy", help="Rewrite the model for deployment; optimize an ONNX file, and measure its latency."),
]
OpsetOption = Annotated[
    int | None,
    typer.Option("--opset", min=1, metavar="N", show_default=False, help="Opset of ONNX; the exporter's by default."),
]


@on_model
def export(
    output: Output, source: Source, out: FileOption, opset: OpsetOption = None, deploy: DeployOption = False
) -> None:
    """Write a model as ONNX or for torch.export, and run the file against the model before handing it out.

    If the file computes something else, it is not kept and the exit code is 2. With --deploy, batch norms are folded,
    identities are removed, and an ONNX file is optimized and compared once more. For a folder written by swdc slim, the
    file's metadata name its plan and its certificate. torch.export.load reads a file that ends in .pt2.

    $ swdc export slim --out slim.onnx
    $ swdc export slim --deploy --out slim.onnx
    $ swdc export slim --out slim.pt2
    $ swdc export torchvision.models:resnet18 --input 1x3x224x224 --out r.onnx
    """
    check_file(out, "--out")
    if out.suffix == SUFFIX and opset is not None:
        raise CommandError(f"expected --opset for an ONNX file, got {out}; leave it out")
    with output.step(f"loading and tracing {source.model}"):
        program = load_program(source)
    certificate = load_certificate(source.model) if is_folder(source.model) else None
    with output.step(f"exporting {out} and running it"):
        report = (
            to_torch(program, out, deploy=deploy, certificate=certificate)
            if out.suffix == SUFFIX
            else export_onnx(program, out, opset=opset, deploy=deploy, certificate=certificate)
        )
    output.document({"model": source.model, **report.to_dict(), "notes": list(program.facts.notes)})
    output.notes(program.facts.notes)
    if isinstance(report, OnnxReport):
        _tell_onnx(output, report, deploy)
        return
    output.line(f"wrote {report.path} ({report.file_bytes:,} bytes); loaded again it {_difference(report)}")


def _tell_onnx(output: Output, report: OnnxReport, deploy: bool) -> None:
    if deploy:
        columns = ["stage", "bytes", "nodes", "relative error", "ms", "not kept"]
        output.table("files, on one sample and one thread", columns, [_stage_row(stage) for stage in report.stages])
    output.line(
        f"wrote {report.path} (opset {report.opset}, {report.file_bytes:,} bytes); in onnxruntime it "
        f"{_difference(report)}"
    )
    output.line(f"{report.macs:,} multiply-adds in the file, {report.macs_difference:+,} to swdc count")
    for difference in report.explanation:
        output.line(f"  {difference}")


def _difference(report: OnnxReport | ExportReport) -> str:
    batches = ", ".join(map(str, report.batches))
    return f"differs by {report.max_relative_error:.1e} at most" + (f", at batch sizes {batches}" if batches else "")


def _stage_row(stage: Stage) -> list[str | int]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    counts = ["" if number is None else number for number in (stage.file_bytes, stage.nodes)]
    error, milliseconds = shown(stage.max_relative_error, ".1e"), shown(stage.latency_ms, ".2f")
    return [stage.name, *counts, error, milliseconds, stage.reason]
