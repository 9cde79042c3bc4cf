"""Runs a scene from its two trainings to the files that it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from swdc.artifacts.folder.save import save
from swdc.artifacts.onnx.export import export_onnx
from swdc.artifacts.onnx.runtime import latencies_ms
from swdc.artifacts.report.report import report as write_page
from swdc.cli.demo.picture import draw_widths
from swdc.cli.demo.tasks import LATENCY_BATCH, Scene, scene
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

LATENCY_RUNS = 200


@one_thread()
def run_demo(
    out: Path, network: str, seed: int, epochs: int | None, progress: Progress, page: Path | None = None
) -> tuple[dict[str, Any], Certificate]:
    """Train, slim, certify, export; write everything to ``out`` and return the report and the certificate.

    The network is trained twice from the same weights, with the same seed and for the same epochs: once as it is,
    and once with SWD.

    ``out`` receives ``dense.onnx``, ``slim.onnx``, the folder ``slim`` (``swdc.load`` reads it), ``widths.png`` and,
    last, ``report.json``. ``page`` receives a page that shows the result.
    """
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    progress("capturing", 0, 1)
    act = scene(network, seed)
    epochs = epochs or act.epochs
    untrained = {name: tensor.clone() for name, tensor in act.program.state_dict().items()}
    train_dense(act, epochs, seed, progress)
    accuracy_dense = act.accuracy(act.program.eval())
    export_onnx(act.program, out / "dense.onnx")
    act.program.load_state_dict(untrained)
    swd = train(act, epochs, seed, progress)
    dense = act.program.eval()
    plan = swd.plan()
    progress("slimming and verifying", 0, 1)
    masked, small = mask(dense, plan), slim(dense, plan)
    certificate = verify(masked, small, seed=seed)
    save(small, out / "slim", certificate)
    progress("exporting to ONNX", 0, 1)
    exported = export_onnx(small, out / "slim.onnx")
    draw_widths(dense, small, out / "widths.png", act.title)
    progress("measuring latency", 0, 1)
    report: dict[str, Any] = {
        "network": act.title,
        "seed": seed,
        "epochs": epochs,
        "accuracy_dense": accuracy_dense,
        "accuracy_swd": act.accuracy(dense),
        "accuracy_masked": act.accuracy(masked),
        "accuracy_slim": act.accuracy(small),
        **_counts(dense, small),
        "exact": certificate.exact,
        "max_relative_error": certificate.max_relative_error,
        "onnx_max_relative_error": exported.max_relative_error,
        "latency_ms": _latencies(out, dense, seed),
        "latency_batch": act.latency_batch,
        "seconds": round(time.perf_counter() - start, 1),
    }
    if page is not None:
        progress("writing the report", 0, 1)
        measured = {
            "Accuracy": (report["accuracy_dense"], report["accuracy_slim"]),
            f"Milliseconds, {times_of(act.latency_batch)}": (
                report["latency_ms"]["dense"],
                report["latency_ms"]["slim"],
            ),
        }
        write_page(page, dense, small, certificate, deploy(small), exported, measured, title=act.title)
    write_whole(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report, certificate


def train_dense(act: Scene, epochs: int, seed: int, progress: Progress) -> None:
    """Train a scene's program as it is, in the order of data that ``train`` has for the same seed."""
    seed_all(seed)
    optimizer, schedule = act.optimizer(epochs)
    for epoch in range(epochs):
        progress("training dense", epoch, epochs)
        _epoch(act, optimizer, lambda: None)
        schedule.step()


def train(act: Scene, epochs: int, seed: int, progress: Progress, bounds: tuple[float, float] | None = None) -> SWD:
    """Train a scene's program with SWD, in the units of the scene, and return the SWD as it stands at the end.

    ``bounds`` are a_min and a_max; without them, ``a="auto"``.
    """
    seed_all(seed)
    optimizer, schedule = act.optimizer(epochs)
    steps, unit = epochs * act.steps_per_epoch(), act.round_to
    if bounds is None:
        swd = SWD(act.program, target=act.target, a="auto", steps=steps, optimizer=optimizer, round_to=unit)
    else:
        swd = SWD(act.program, target=act.target, a_min=bounds[0], a_max=bounds[1], steps=steps, round_to=unit)
    for epoch in range(epochs):
        progress("training with SWD", epoch, epochs)
        _epoch(act, optimizer, swd.step)
        schedule.step()
    return swd


def _epoch(act: Scene, optimizer: torch.optim.Optimizer, pull: Callable[[], None]) -> None:
    """Train for one epoch; ``pull`` is called between the gradients and the optimizer's step."""
    act.program.train()
    for loss in act.losses():
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        pull()
        optimizer.step()


def _counts(dense: Program, small: Program) -> dict[str, Any]:
    before, after = count(dense), count(small)
    return {
        name: {"before": getattr(before, name), "after": getattr(after, name)}
        for name in ("parameters", "operations", "macs")
    }


def times_of(batch: int | None) -> str:
    """Return the words for what a time is that of: a batch, or the whole graph (``None``)."""
    return "the whole graph" if batch is None else f"batch {batch}"


def _latencies(out: Path, program: Program, seed: int) -> dict[str, float]:
    """Return the median milliseconds of a run of each file in onnxruntime; the files run in turn."""
    names = ("dense", "slim")
    inputs = sample_inputs(program, LATENCY_BATCH, seed, torch.float32)
    times = latencies_ms([out / f"{name}.onnx" for name in names], inputs, runs=LATENCY_RUNS)
    return dict(zip(names, times, strict=True))
