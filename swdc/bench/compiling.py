"""How long analysis, planning and surgery take, beside Torch-Pruning's; and how analysis grows with depth."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch import nn

from swdc.bench.catalogue import entry
from swdc.contract import find_pass
from swdc.errors import CommandError
from swdc.program import Program
from swdc.rewrite import slim
from swdc.sparsity.planning import plan
from swdc.threads import one_thread
from swdc.trace import trace

NETWORKS = ("resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0")
SIDE = 224

Row = dict[str, Any]


def compare(repeats: int = 3, announce: Callable[[str], None] = lambda name: None) -> Iterator[Row]:
    """Yield for each network the medians of paired runs, in seconds, on one thread.

    Ours: ``capture`` (apart), ``analysis``, ``plan``, ``slim``. The peer's, with its documented use: ``peer_build``
    (dependency graph) and ``peer_prune``. ``ratio`` is analysis + plan + slim over build + prune. Both cut half of
    the channels of every layer but the classifier; both are warm.
    """
    peer = _peer()
    gc.disable()  # as timeit does: a collection of torch's heap takes as long as a rewrite
    try:
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _ours("mobilenet_v2")
            _peers(peer, "mobilenet_v2")
            for name in NETWORKS:
                announce(name)
                runs = [_paired(peer, name) for _ in range(repeats)]
                row = {key: median(run[key] for run in runs) for key in runs[0]}
                ours, theirs = (
                    row["analysis"] + row["plan"] + row["slim"],
                    row["peer_build"] + row["peer_prune"],
                )
                yield {"network": name, **row, "ours": ours, "peer": theirs, "ratio": ours / theirs}
    finally:
        gc.enable()


def _paired(peer: Any, name: str) -> dict[str, float]:
    gc.collect()
    ours = _ours(name)
    gc.collect()
    return {**ours, **_peers(peer, name)}


def _peer() -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise CommandError(
            "expected Torch-Pruning to compare with; install it with pip install 'swdc[bench]'"
        ) from error
    return torch_pruning


def _model(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return entry(name).model().eval(), torch.randn(1, 3, SIDE, SIDE)


def _ours(name: str) -> dict[str, float]:
    model, inputs = _model(name)
    start = time.perf_counter()
    program = trace(model, inputs)
    captured = time.perf_counter()
    assert program.coupling is not None
    analysed = time.perf_counter()
    chosen = plan(program, 0.5, scope="group")
    planned = time.perf_counter()
    slim(program, chosen)
    done = time.perf_counter()
    return {
        "capture": captured - start, "analysis": analysed - captured, "plan": planned - analysed, "slim": done - planned
    }  # fmt: skip


def _peers(peer: Any, name: str) -> dict[str, float]:
    model, inputs = _model(name)
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == 1000]
    start = time.perf_counter()
    pruner = peer.pruner.MagnitudePruner(
        model,
        inputs,
        importance=peer.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=heads,
    )
    built = time.perf_counter()
    pruner.step()
    return {"peer_build": built - start, "peer_prune": time.perf_counter() - built}


class Chain(nn.Module):
    """A chain of residual blocks on vectors of shape ``(N, width)``."""

    def __init__(self, blocks: int, width: int = 16) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of shape ``(N, 2)``."""
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(torch.relu(first(x)))
        return self.head(x)  # type: ignore[no-any-return]


def scaling(blocks: tuple[int, ...] = (100, 1000), repeats: int = 5) -> Iterator[Row]:
    """Yield the median seconds of the analysis of chains of residual blocks; ``ratio`` is to the first of them."""
    first: float | None = None
    for number in blocks:
        program = trace(Chain(number).eval(), torch.randn(2, 16))
        seconds = median(_analysis(program) for _ in range(repeats))
        first = first or seconds
        yield {"blocks": number, "seconds": seconds, "ratio": seconds / first}


def _analysis(program: Program) -> float:
    analysis: Any = find_pass("couple-channels")()
    program.recompile()  # forgets what was derived from the graph
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    analysis.analyse(program)
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds
