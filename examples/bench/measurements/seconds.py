"""How long analysis, planning and surgery take, beside Torch-Pruning's; and how analysis grows with depth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch import nn

from examples.bench.networks.catalogue import entry
from examples.bench.peer.pace import REPEATS, paired, total
from examples.bench.running.row_files import Row
from swdc import Program, trace
from swdc.analysis.coupling import couple
from swdc.costs.clock import no_collection, one_thread
from swdc.ir.packages import package

NETWORKS = ("resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0")
SIDE = 224


def compare(repeats: int = REPEATS, announce: Callable[[str], None] = lambda name: None) -> Iterator[Row]:
    """Yield for each network the medians of paired runs, in seconds, on one thread.

    Ours: ``capture`` (apart), ``analysis``, ``plan``, ``slim``. The peer's, with its documented use: ``peer_build``
    (dependency graph) and ``peer_prune``. ``ratio`` is analysis + plan + slim over build + prune. Both cut half of
    the channels of every layer but the classifier; both are warm.
    """
    peer = package("torch_pruning", "bench")
    with one_thread():
        _paired(peer, "mobilenet_v2", 1)
        for name in NETWORKS:
            announce(name)
            found = _paired(peer, name, repeats)
            row = {**found["ours"], **{f"peer_{phase}": seconds for phase, seconds in found["peer"].items()}}
            ours, theirs = total(found["ours"]) - row["capture"], total(found["peer"])
            yield {"network": name, **row, "ours": ours, "peer": theirs, "ratio": ours / theirs}


def _paired(peer: Any, name: str, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model, inputs = entry(name).model().eval(), torch.randn(1, 3, SIDE, SIDE)

    def pruner(network: nn.Module) -> Any:
        heads = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
        importance = peer.importance.MagnitudeImportance(p=2)
        return peer.pruner.MagnitudePruner(
            network, inputs, importance=importance, pruning_ratio=0.5, ignored_layers=heads
        )

    return paired(model, inputs, pruner, repeats)


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
    with no_collection():
        start = time.perf_counter()
        couple(program)
        return time.perf_counter() - start
