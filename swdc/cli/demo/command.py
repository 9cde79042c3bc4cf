"""``swdc demo``: watch a network being trained with SWD, slimmed, certified and run in onnxruntime."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from swdc.cli.demo.run import run_demo, times_of
from swdc.cli.demo.tasks import SCENES
from swdc.cli.terminal.options import JsonOption, SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, reported
from swdc.cli.terminal.page import ReportOption, check_page
from swdc.ir.progress import progress_bar
from swdc.rewriting.certificate import Certificate

OutOption = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="Folder for the ONNX files, the saved program, the report and the picture."
    ),
]
NetworkName = StrEnum("NetworkName", {name: name for name in SCENES})  # type: ignore[misc]
"""What is trained."""
NetworkOption = Annotated[
    NetworkName,
    typer.Option("--network", help="; ".join(f"{name}: {made.title}" for name, made in SCENES.items()) + "."),
]
_EPOCHS = ", ".join(f"{made.epochs} for {name}" for name, made in SCENES.items())
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", min=1, show_default=False, help=f"Epochs of training; {_EPOCHS}.")
]


def demo(
    out: OutOption = Path("demo"),
    network: NetworkOption = NetworkName["resnet20"],
    epochs: EpochsOption = None,
    seed: SeedOption = 0,
    page: ReportOption = None,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Train a network so that 90 % of its parameters die, delete them, and prove that nothing was lost.

    ResNet-20 with batch norms inserted after its residual sums learns scikit-learn's handwritten digits under
    Selective Weight Decay; then it is slimmed, certified, exported, and timed in onnxruntime. Beside it stands the
    same network, trained in the same way without Selective Weight Decay.

    $ swdc demo --out demo
    $ swdc demo --network gcn --out demo-gcn --report gcn.html
    """
    with reported(as_json, show_traceback) as output:
        check_page(page)
        with progress_bar(hidden=as_json) as bar:
            report, certificate = run_demo(out, network.value, seed, epochs, bar.show, page)
        output.document({**report, "certificate": certificate.to_dict()})
        _print(output, report, certificate, out)
        if page is not None:
            output.line(f"wrote {page}; a browser shows it")
        if not certificate.exact:
            raise typer.Exit(NOT_AS_ASKED)


def _print(output: Output, report: dict[str, Any], certificate: Certificate, out: Path) -> None:
    rows = [
        [name, f"{report[name]['before']:,}", f"{report[name]['after']:,}", _share(report[name])]
        for name in ("parameters", "operations", "macs")
    ]
    latency = report["latency_ms"]
    times = latency["dense"] / latency["slim"]
    name = f"milliseconds in onnxruntime, {times_of(report['latency_batch'])}"
    rows.append([name, f"{latency['dense']:.3f}", f"{latency['slim']:.3f}", f"{times:.2f} x faster"])
    output.table(report["network"], ["", "before", "after", ""], rows)
    dense, trained, *cut = (f"{report[f'accuracy_{name}']:.1%}" for name in ("dense", "swd", "masked", "slim"))
    output.line(f"accuracy on held-out data: dense {dense}; trained with SWD {trained}, masked {cut[0]}, slim {cut[1]}")
    output.line(str(certificate))
    output.line(f"slim.onnx in onnxruntime: relative error {report['onnx_max_relative_error']:.1e}")
    output.line(f"wrote slim.onnx, dense.onnx, slim/, widths.png and report.json to {out} in {report['seconds']} s")


def _share(counts: dict[str, int]) -> str:
    return f"{1 - counts['after'] / counts['before']:.1%} gone"
