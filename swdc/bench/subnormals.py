"""What subnormal weights cost: a network whose weights have decayed to them, before and after they are flushed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from swdc.bench.catalogue import entry
from swdc.bench.pace import collection_between
from swdc.bench.randomise import random_network
from swdc.onnx import export_onnx
from swdc.pipeline import apply
from swdc.program import Program
from swdc.runtime import feed, open_session, run_session
from swdc.threads import one_thread
from swdc.trace import trace

DECAYED = 1e-40
"""What a weight has decayed to; the smallest normal number of float32 is 1.2e-38."""
WARM_UP = 2

Row = dict[str, Any]
Run = Callable[[], torch.Tensor]


def subnormals(
    name: str = "vgg16",
    side: int = 64,
    share: float = 0.9,
    repeats: int = 5,
    seed: int = 0,
    announce: Callable[[str], None] = lambda name: None,
) -> Iterator[Row]:
    """Yield for onnxruntime and for eager PyTorch the latency with subnormal weights, and with these flushed to zero.

    The network is one of torchvision's for images, with random weights, of which the smallest ``share`` of each layer
    has decayed; it runs on one image of ``side`` x ``side``, on one thread. ``before_ms`` and ``after_ms`` are medians
    of runs that take turns, ``max_difference`` is the largest difference of the logits of both.
    """
    announce(f"{name}: random weights")
    model, _ = random_network(entry(name, "torchvision"), seed)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    decayed = trace(model, image)
    number = decay_(decayed, share)
    flushed = apply(decayed, "flush-subnormals")
    described = {"network": name, "side": side, "threads": 1, "share": share, "subnormal_weights": number}
    with tempfile.TemporaryDirectory() as folder, one_thread():
        for runtime, make in (("onnxruntime", _in_onnxruntime), ("eager", _eager)):
            announce(f"{name}: {runtime}")
            runs = [make(program, image, Path(folder) / f"{i}.onnx") for i, program in enumerate((decayed, flushed))]
            yield {**described, "runtime": runtime, **paired(runs[0], runs[1], repeats)}


def decay_(program: Program, share: float) -> int:
    """Let the smallest ``share`` of every matrix and filter bank decay, in place; return how many weights that are."""
    number = 0
    with torch.no_grad():
        for weight in program.read_parameters().values():
            count = int(share * weight.numel()) if weight.dim() > 1 else 0
            if count:
                small = weight.abs() <= weight.abs().flatten().kthvalue(count).values
                weight[small] = torch.copysign(torch.tensor(DECAYED), weight[small])
                number += int(small.sum())
    return number


def paired(before: Run, after: Run, repeats: int) -> Row:
    """Return median milliseconds of two runs that take turns, their ratio, and how far their results lie apart."""
    times: tuple[list[float], list[float]] = ([], [])
    difference = 0.0
    with collection_between():
        for _ in range(WARM_UP + repeats):
            results = []
            for run, seconds in zip((before, after), times, strict=True):
                start = time.perf_counter()
                results.append(run())
                seconds.append(time.perf_counter() - start)
            difference = max(difference, float((results[0] - results[1]).abs().max()))
    slow, fast = (1000 * median(seconds[WARM_UP:]) for seconds in times)
    return {
        "before_ms": slow, "after_ms": fast, "speedup": slow / fast, "max_difference": difference, "repeats": repeats
    }  # fmt: skip


def _eager(program: Program, image: torch.Tensor, path: Path) -> Run:
    def run() -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = program(image)
            return logits

    return run


def _in_onnxruntime(program: Program, image: torch.Tensor, path: Path) -> Run:
    export_onnx(program, path, batches=(1,))
    session = open_session(path, threads=1)
    arrays = feed(session, image)
    return lambda: torch.from_numpy(run_session(session, arrays)[0])
