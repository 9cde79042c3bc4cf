"""Timing: calls that take turns, calls that repeat for a while, and the number of threads that compute meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch

from swdc.ir.gc_pause import collection_paused

WARM_UP = 5
"""Rounds of calls that are not timed."""
_SECONDS, _SECONDS_DISTURBED = 0.2, 1.0
"""Seconds that repeated calls take together, without and with other processes that compete for the processor."""
_UNDISTURBED = 0.9
"""A thread that has the processor for a larger share of the time is undisturbed by other processes."""


def paired_ms(calls: Sequence[Callable[[], object]], runs: int, warm_up: int = WARM_UP) -> list[list[float]]:
    """Return for each call its milliseconds in each of ``runs`` rounds; every call has one turn in a round.

    ``warm_up`` earlier rounds are not counted, and no garbage is collected meanwhile.
    """
    times: list[list[float]] = [[] for _ in calls]
    with no_collection():
        for turn in range(warm_up + runs):
            for call, found in zip(calls, times, strict=True):
                start = time.perf_counter()
                call()
                if turn >= warm_up:
                    found.append(1000 * (time.perf_counter() - start))
    return times


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage while code is timed, as in ``timeit``: a pass over torch's heap takes as long as a rewrite."""
    gc.collect()
    with collection_paused():
        yield


def medians_ms(calls: Sequence[Callable[[], object]], runs: int, warm_up: int = WARM_UP) -> list[float]:
    """Return for each call the median of its milliseconds in paired runs."""
    return [median(found) for found in paired_ms(calls, runs, warm_up)]


def repeat(call: Callable[[], object], least: int) -> None:
    """Repeat a call for 0.2 seconds, or 1 second if other processes disturb it, but at least ``least`` times."""
    runs, start, busy = 0, time.perf_counter(), time.thread_time()
    while runs < least or _goes_on(time.perf_counter() - start, time.thread_time() - busy):
        call()
        runs += 1


def _goes_on(passed: float, busy: float) -> bool:
    """Whether to run again, given the seconds that have passed and the seconds that this thread had the processor."""
    return passed < (_SECONDS if busy > _UNDISTURBED * passed else _SECONDS_DISTURBED)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: repeatable, and for small networks faster than threads that wait for each other."""
    with on_threads(1):
        yield


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Let torch compute on ``number`` CPU threads, and restore the previous number at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
