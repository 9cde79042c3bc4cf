"""What subnormal weights cost: a network whose weights have decayed to them, before and after they are flushed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from examples.bench.networks.catalogue import entry
from examples.bench.networks.randomise import random_network
from examples.bench.running.row_files import Row
from examples.bench.running.runtimes import Call, Setup, prepared, timed_ms
from swdc import Program, export_onnx, trace
from swdc.costs.clock import one_thread
from swdc.rewriting.pipeline import apply

DECAYED = 1e-40
"""What a weight has decayed to; the smallest normal number of float32 is 1.2e-38."""


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
        files = [Path(folder) / f"{each}.onnx" for each in ("decayed", "flushed")]
        for program, file in zip((decayed, flushed), files, strict=True):
            export_onnx(program, file, batches=(1,))
        for setup in (Setup("onnxruntime", 1), Setup("eager", 1)):
            announce(f"{name}: {setup.runtime}")
            calls = [prepared(setup, *each, image) for each in zip((decayed, flushed), files, strict=True)]
            yield {**described, "runtime": setup.runtime, **compared(calls[0], calls[1], repeats)}


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


def compared(before: Call, after: Call, repeats: int) -> Row:
    """Return median milliseconds of two runs that take turns, their ratio, and how far their results lie apart."""
    times = timed_ms({"before": before, "after": after}, repeats)
    slow, fast = (median(runs) for runs in times.values())
    with torch.no_grad():
        difference = float((_logits(before()) - _logits(after())).abs().max())
    return {
        "before_ms": slow, "after_ms": fast, "speedup": slow / fast, "max_difference": difference, "repeats": repeats
    }  # fmt: skip


def _logits(result: Any) -> torch.Tensor:
    return torch.as_tensor(result[0] if isinstance(result, list) else result)
