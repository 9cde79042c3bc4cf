"""Work in a forked process: killed after some time, or watched while it judges something."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from select import select
from typing import Any

DEADLINE = 10.0
"""Seconds of the processor after which a process that was to judge something hangs."""
PATIENCE = 6
"""How much longer it may take by the clock, because other processes may share the processor."""
MEMORY = 10**9
"""Bytes by which such a process may grow."""


def killed(work: Callable[[], object], seconds: float) -> bool:
    """Kill a process some time after it began its work; return whether it was still at work."""
    process = _forked(work)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def duration(work: Callable[[], object]) -> float:
    """Return how long a process takes for its work, in seconds; ``RuntimeError`` if the work fails."""
    start = time.perf_counter()
    if os.waitpid(_forked(work), 0)[1]:
        raise RuntimeError("expected work that can be done, but it fails without being killed")
    return time.perf_counter() - start


@dataclass(frozen=True)
class Judged:
    """The verdict of a process, the seconds of the processor that it took, and the bytes by which it grew."""

    verdict: str
    seconds: float
    grown: int


def judged(judge: Callable[[], str]) -> Judged:
    """Return the verdict of a process, or say that it hangs, dies, or grows without bounds."""
    reader, writer = os.pipe()
    process = _forked(lambda: os.write(writer, json.dumps([judge(), _grown()]).encode()))
    os.close(writer)
    ready, _, _ = select([reader], [], [], DEADLINE * PATIENCE)
    if not ready:
        os.kill(process, signal.SIGKILL)
    found = os.read(reader, 1 << 16) if ready else b""
    os.close(reader)
    _, status, used = os.wait4(process, 0)
    seconds = used.ru_utime + used.ru_stime
    if not ready or seconds > DEADLINE:
        return Judged(f"hangs for more than {DEADLINE:.0f} s", seconds, 0)
    if not found:
        return Judged(f"dies with status {status}", seconds, 0)
    verdict, grown = json.loads(found)
    return Judged(verdict if grown < MEMORY else f"grows by {grown / 1e9:.1f} GB", seconds, grown)


def _grown() -> int:
    """Return by how many bytes the process has grown at most beyond what it was forked with."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - _BEFORE[0]


_BEFORE = [0]


def _forked(work: Callable[[], Any]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn of forks in processes with threads
        process = os.fork()
    if process:
        return process
    try:
        _BEFORE[0] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
