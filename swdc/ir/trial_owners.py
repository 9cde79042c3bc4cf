"""Which process runs a trial, and whether it still does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

ALIVE, OWNER = "alive", "owner"
"""Names of the attributes of trials."""
SILENCE = 120.0
"""Seconds without a sign of life after which a trial of another machine counts as interrupted."""


def owner() -> dict[str, Any]:
    """Return what tells this process from all others, and this trial from its other ones."""
    process = os.getpid()
    return {
        "host": socket.gethostname(), "process": process, "started": _start_of(process), "token": uuid4().hex
    }  # fmt: skip


def is_gone(trial: Any) -> bool:
    """Whether the process of a trial is gone; one that this machine cannot see, if it has been silent for long."""
    known = trial.user_attrs.get(OWNER)
    if known is not None and known["host"] == socket.gethostname() and _start_of(os.getpid()) is not None:
        start = _start_of(known["process"])
        return start is None or start != known.get("started", start)
    alive = trial.user_attrs.get(ALIVE, trial.datetime_start.timestamp())
    return time.time() - float(alive) > SILENCE


@contextmanager
def signs_of_life(beat: Callable[[], None]) -> Iterator[None]:
    """Call a function now and then, which tells other machines that the trials of this process are under way."""
    over = Event()

    def go_on() -> None:
        while not over.wait(SILENCE / 4):
            beat()

    thread = Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _start_of(process: int) -> str | None:
    """Return when a process of this machine was started, because numbers are used again; ``None`` if it is gone."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]
