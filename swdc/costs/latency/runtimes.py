"""Other runtimes as the clock: each layer becomes a small ONNX model that a function of the caller's times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swdc.costs.latency.measuring import Probe, inputs_of, model_of
from swdc.costs.latency.operator_kinds import node_of
from swdc.errors import PlanError

Run: TypeAlias = Callable[[bytes, Mapping[str, npt.NDArray[Any]], int], float]
"""Takes an ONNX model, its inputs by name and the number of threads; returns milliseconds."""


def timed_by(run: Run) -> Callable[[Sequence[Probe], int], list[float]]:
    """Return what ``MeasuredTable`` takes as ``measure``: every layer is given to ``run`` in a model of its own."""

    def measure(probes: Sequence[Probe], threads: int) -> list[float]:
        return [_time(run, probe, threads) for probe in probes]

    return measure


def _time(run: Run, probe: Probe, threads: int) -> float:
    layer, sizes = probe
    nodes = [node_of(layer, sizes)]
    ms = run(model_of(nodes).SerializeToString(), inputs_of(nodes), threads)
    if not isinstance(ms, int | float | np.number) or not math.isfinite(ms) or ms <= 0:
        raise PlanError(
            f"expected run to return the milliseconds of {layer.signature} at {sizes} as a positive number, got {ms!r}"
        )
    return float(ms)
