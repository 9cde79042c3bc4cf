"""Runs a scene from training to the files that it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from swdc.artifacts.folder.save import save
from swdc.artifacts.onnx.export import export_onnx
from swdc.artifacts.onnx.runtime import latency_ms
from swdc.artifacts.report.report import report as write_page
from swdc.cli.demo.picture import draw_widths
from swdc.cli.demo.tasks import Scene, scene
from swdc.costs.clock import one_thread
from swdc.costs.count import count
from swdc.ir.atomic_files import write_whole
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.seeding import seed_all
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.deploy import deploy
from swdc.rewriting.rewrites import mask, slim
from swdc.rewriting.verify import verify
from swdc.sparsity.swd import SWD

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

LATENCY_BATCH = 16
LATENCY_RUNS = 200


@one_thread()
def run_demo(
    out: Path, network: str, seed: int, epochs: int | None, progress: Progress, page: Path | None = None
) -> tuple[dict[str, Any], Certificate]:
    """Train, slim, certify, export; write everything to ``out`` and return the report and the certificate.

    ``out`` receives ``dense.onnx``, ``slim.onnx``, the folder ``slim`` (``swdc.load`` reads it), ``widths.png`` and,
    last, ``report.json``. ``page`` receives a page that shows the result.
    """
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    progress("capturing", 0, 1)
    act = scene(network, seed)
    swd = train(act, epochs or act.epochs, seed, progress)
    dense = act.program.eval()
    plan = swd.plan()
    progress("slimming and verifying", 0, 1)
    masked, small = mask(dense, plan), slim(dense, plan)
    certificate = verify(masked, small, seed=seed)
    save(small, out / "slim", certificate)
    progress("exporting to ONNX", 0, 2)
    export_onnx(dense, out / "dense.onnx")
    progress("exporting to ONNX", 1, 2)
    exported = export_onnx(small, out / "slim.onnx")
    draw_widths(dense, small, out / "widths.png", act.title)
    progress("measuring latency", 0, 1)
    report: dict[str, Any] = {
        "network": act.title,
        "seed": seed,
        "accuracy_dense": act.accuracy(dense),
        "accuracy_masked": act.accuracy(masked),
        "accuracy_slim": act.accuracy(small),
        **_counts(dense, small),
        "exact": certificate.exact,
        "max_relative_error": certificate.max_relative_error,
        "onnx_max_relative_error": exported.max_relative_error,
        "latency_ms": {name: _latency(out / f"{name}.onnx", dense, seed) for name in ("dense", "slim")},
        "seconds": round(time.perf_counter() - start, 1),
    }
    if page is not None:
        progress("writing the report", 0, 1)
        measured = {
            "Accuracy": (report["accuracy_dense"], report["accuracy_slim"]),
            f"Milliseconds, batch {LATENCY_BATCH}": (report["latency_ms"]["dense"], report["latency_ms"]["slim"]),
        }
        write_page(page, dense, small, certificate, deploy(small), exported, measured, title=act.title)
    write_whole(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report, certificate


def train(act: Scene, epochs: int, seed: int, progress: Progress, bounds: tuple[float, float] | None = None) -> SWD:
    """Train a scene's program with SWD, and return the SWD as it stands at the end.

    ``bounds`` are a_min and a_max; without them, ``a="auto"``.
    """
    seed_all(seed)
    optimizer, schedule = act.optimizer(epochs)
    steps = epochs * act.steps_per_epoch()
    if bounds is None:
        swd = SWD(act.program, target=act.target, a="auto", steps=steps, optimizer=optimizer)
    else:
        swd = SWD(act.program, target=act.target, a_min=bounds[0], a_max=bounds[1], steps=steps)
    for epoch in range(epochs):
        progress("training with SWD", epoch, epochs)
        act.program.train()
        for loss in act.losses():
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            swd.step()
            optimizer.step()
        schedule.step()
    return swd


def _counts(dense: Program, small: Program) -> dict[str, Any]:
    before, after = count(dense), count(small)
    return {
        name: {"before": getattr(before, name), "after": getattr(after, name)}
        for name in ("parameters", "operations", "macs")
    }


def _latency(path: Path, program: Program, seed: int) -> float:
    """Return the median milliseconds of one run in onnxruntime, at a batch of 16 or on the whole graph."""
    args, kwargs = sample_inputs(program, LATENCY_BATCH, seed, torch.float32)
    return latency_ms(path, (*args, *kwargs.values()), runs=LATENCY_RUNS)
