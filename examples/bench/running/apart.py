"""Running a task in a process of its own, with limits: whatever happens there, this process goes on."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from threading import Lock
from typing import Any
from unittest import mock

from examples.bench.running.process import same_modules
from swdc.errors import brief

Report = Callable[[Mapping[str, Any]], None]
Task = Callable[..., None]
"""A function of a module: called with a ``Report`` and the arguments, in the other process."""

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation")
_STARTING = Lock()


@dataclass(frozen=True)
class Limits:
    """What a process may take: seconds of wall clock, and gigabytes of memory of its own."""

    seconds: float = 300.0
    gigabytes: float = 16.0


@dataclass(frozen=True)
class Outcome:
    """What a task reported, all reports merged; ``kind`` says how it ended badly, if it did, and ``reason`` why."""

    found: Mapping[str, Any]
    kind: str = ""
    reason: str = ""


def run_apart(task: Task, arguments: Sequence[Any], limits: Limits, preload: Sequence[str] = ()) -> Outcome:
    """Run a task in a new process and return what it reported, however it ended.

    ``preload`` are modules that are imported once for all processes (by the first call of this process only).
    ``kind`` is empty, ``time-out``, ``memory``, ``crash`` (a signal) or ``error`` (an exception that it did not catch).
    """
    context = _forkserver(preload)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, task, tuple(arguments), limits.gigabytes), daemon=True)
    process.start()
    sender.close()
    found: dict[str, Any] = {}
    try:
        finished = _collect(receiver, found, time.monotonic() + limits.seconds)
    finally:
        receiver.close()
        if process.is_alive():
            process.join(1.0)
        process.kill()
        process.join()
    if not finished:
        return Outcome(found, "time-out", f"not done after {limits.seconds:g} s")
    return Outcome(found, *_ending(found.pop("exception", None), process.exitcode or 0))


def _forkserver(preload: Sequence[str]) -> ForkServerContext:
    """Return what starts processes; the process that all are forked from runs, and finds the modules of this one."""
    context = get_context("forkserver")
    with _STARTING, mock.patch.dict(os.environ, same_modules()):
        context.set_forkserver_preload(list(preload))
        ensure_running()
    return context


def _collect(receiver: Connection, found: dict[str, Any], end: float) -> bool:
    """Merge reports until the other side closes; return whether it did before the time was up."""
    while receiver.poll(max(0.0, end - time.monotonic())):
        try:
            found.update(receiver.recv())
        except (EOFError, ConnectionResetError):
            return True
    return False


def _ending(exception: str | None, code: int) -> tuple[str, str]:
    if exception is not None:
        return ("memory" if out_of_memory(exception) else "error"), exception
    if code == -signal.SIGKILL:
        return "memory", "killed by the system, which happens where memory runs out"
    if code < 0:
        return "crash", f"ended by {signal.Signals(-code).name}"
    return ("error", f"ended with code {code}") if code else ("", "")


def _serve(sender: Connection, task: Task, arguments: tuple[Any, ...], gigabytes: float) -> None:
    """Run the task in this process, and leave without cleaning up: nothing here is worth the time."""
    _silence()
    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        task(sender.send, *arguments)
    except Exception as error:  # whatever a task raises is its outcome
        sender.send({"exception": brief(error)})
    sender.close()
    os._exit(0)


def out_of_memory(message: str) -> bool:
    """Whether an error, as text, says that memory ran out."""
    return message.startswith("MemoryError") or any(words in message.lower() for words in _OUT_OF_MEMORY)


def _silence() -> None:
    """Send what libraries print to nowhere, from native code too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
