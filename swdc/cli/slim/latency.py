"""The times that ``swdc slim --budget latency`` reports: predicted for the plan, and measured on exported files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from swdc.artifacts.onnx.export import export_onnx
from swdc.artifacts.onnx.runtime import latencies_ms
from swdc.artifacts.report.slimming import NOT_RUN, Slimming
from swdc.errors import ExportError
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs

_THREADS = 1
_RUNS = 50


def latency_report(done: Slimming) -> dict[str, Any]:
    """Return predicted and measured milliseconds of both programs, for a batch as in the example inputs.

    ``measured_ms`` is ``None`` if they cannot be run, and ``reason`` says why.
    """
    facts = done.dense.facts
    batch = 1 if facts.batch is None else facts.symbols[facts.batch]
    settings = done.plan.settings
    predicted = {"before": settings["predicted_ms_before"], "after": settings["predicted_ms"]}
    measured, reason = None, None
    if done.exact:
        try:
            before, after = measured_ms((done.dense, done.slim), batch)
            measured = {"before": before, "after": after}
        except ExportError as error:
            reason = str(error)
    else:
        reason = NOT_RUN if done.exact is None else "the certificate is not exact"
    report = {"threads": _THREADS, "batch": batch, "predicted_ms": predicted, "measured_ms": measured}
    return {**report, "reason": reason}


def measured_ms(programs: Sequence[Program], batch: int) -> list[float]:
    """Return the median times of a run of exported programs, which take turns.

    Raises ``ExportError`` if one of them cannot be exported.
    """
    inputs = sample_inputs(programs[0], batch, 0, torch.float32)
    with tempfile.TemporaryDirectory(prefix="swdc-latency-") as folder:
        files = [Path(folder) / f"{number}.onnx" for number in range(len(programs))]
        for program, file in zip(programs, files, strict=True):
            export_onnx(program, file, batches=(batch,))
        return latencies_ms(files, inputs, _RUNS, _THREADS)


def latency_rows(report: dict[str, Any]) -> tuple[str, list[list[str]]]:
    """Return the title and the rows of a table of a report."""
    title = f"In onnxruntime, {report['threads']} thread, batch {report['batch']}"
    rows = []
    for what in ("predicted", "measured"):
        pair = report[f"{what}_ms"]
        if pair is None:
            rows.append([f"not measured: {report['reason']}", "", "", ""])
        else:
            saved = 1 - pair["after"] / pair["before"]
            rows.append([what, f"{pair['before']:.2f}", f"{pair['after']:.2f}", f"{saved:.1%}"])
    return title, rows


def measured_pairs(report: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of a report before and after, by what they are."""
    times = {"predicted": report["predicted_ms"], "in onnxruntime": report["measured_ms"]}
    return {f"Milliseconds, {how}": (pair["before"], pair["after"]) for how, pair in times.items() if pair is not None}
