"""Seconds from a module to the slim network: ours and Torch-Pruning's in its documented use, in paired runs."""

from __future__ import annotations

import copy
import gc
import time
import warnings
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from torch import nn

from examples.bench.running.stopwatch import Stopwatch
from swdc import plan, slim, trace
from swdc.costs.clock import no_collection

OURS = ("capture", "analysis", "plan", "slim")
PEERS = ("build", "prune")
REPEATS = 3

Seconds = dict[str, float]


def paired(
    model: nn.Module,
    inputs: Any,
    pruner: Callable[[nn.Module], Any],
    repeats: int = REPEATS,
    limit: float = float("inf"),
) -> dict[str, Any]:
    """Return the medians of runs that take turns, each on a new copy of the model: ``ours``, ``peer``, ``runs``.

    ``pruner`` makes the peer's pruner of a model. No pair is begun after ``limit`` seconds.
    """
    end = time.perf_counter() + limit
    ours: list[Seconds] = []
    theirs: list[Seconds] = []
    with no_collection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(ours) < repeats and (not ours or time.perf_counter() < end):
            ours.append(our_seconds(copy.deepcopy(model), inputs))
            gc.collect()
            theirs.append(peer_seconds(copy.deepcopy(model), pruner))
            gc.collect()
    return {"ours": _medians(ours), "peer": _medians(theirs), "runs": len(ours)}


def our_seconds(model: nn.Module, inputs: Any) -> Seconds:
    """Return what each phase takes until half of each group's channels are gone."""
    watch = Stopwatch()
    program = trace(model, inputs)
    watch.note("capture")
    assert program.coupling is not None
    watch.note("analysis")
    chosen = plan(program, 0.5, scope="group")
    watch.note("plan")
    slim(program, chosen)
    watch.note("slim")
    return watch.seconds


def peer_seconds(model: nn.Module, pruner: Callable[[nn.Module], Any]) -> Seconds:
    """Return what the peer takes to build its graph and to prune."""
    watch = Stopwatch()
    made = pruner(model)
    watch.note("build")
    made.step()
    watch.note("prune")
    return watch.seconds


def _medians(runs: list[Seconds]) -> Seconds:
    return {phase: median(run[phase] for run in runs) for phase in runs[0]}


def total(seconds: Mapping[str, float]) -> float:
    """Return the seconds of all phases."""
    return float(sum(seconds.values()))
