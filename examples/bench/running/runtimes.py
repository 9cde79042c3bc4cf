"""What runs a network: onnxruntime, and PyTorch eager and compiled."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from swdc import Program
from swdc.artifacts.onnx.runtime import feed, open_session, run_session
from swdc.costs.clock import paired_ms

SECONDS = 120.0
"""After about so many no further round is begun."""
LEAST_RUNS = 3
SETTLE = 1
"""Calls that a turn begins with and that do not count: a small network finds the caches full of the large one."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Setup:
    """A runtime, and the threads that it computes with."""

    runtime: str
    threads: int


SETUPS = (Setup("onnxruntime", 1), Setup("onnxruntime", 2), Setup("eager", 1), Setup("compile", 1))


@contextmanager
def private_cache() -> Iterator[None]:
    """Compile into a folder of this run's own: what an interrupted run left half written is not taken for code."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder}):
        yield


def prepared(setup: Setup, program: Program, file: Path, images: Tensor) -> Call:
    """Return a call that runs a program, or its ONNX file, on images; it has been made once."""
    if setup.runtime == "onnxruntime":
        session = open_session(file, setup.threads)
        call: Call = partial(run_session, session, feed(session, images))
    elif setup.runtime == "eager":
        call = partial(program, images)
    else:
        call = partial(torch.compile(program, dynamic=False), images)
    with torch.no_grad():
        call()
    return call


def timed_ms(calls: Mapping[str, Call], repeats: int) -> dict[str, Sequence[float]]:
    """Return the milliseconds of each of up to ``repeats`` runs of calls that take turns, two calls in each."""
    if not calls:
        return {}
    with torch.no_grad():
        start = time.perf_counter()
        for call in calls.values():
            call()
        rounds = int(SECONDS / (1 + SETTLE) / (time.perf_counter() - start))
        runs = max(min(repeats, rounds), min(repeats, LEAST_RUNS))
        turns = [call for call in calls.values() for _ in range(SETTLE + 1)]
        return dict(zip(calls, paired_ms(turns, runs, warm_up=1)[SETTLE :: SETTLE + 1], strict=True))
