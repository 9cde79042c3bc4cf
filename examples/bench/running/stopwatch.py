"""Seconds of phases that follow each other."""

from __future__ import annotations

import time


class Stopwatch:
    """Notes what each phase takes from the end of the one before; ``seconds`` are wall clock, by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last, self._cpu = time.perf_counter(), time.process_time()

    def note(self, phase: str) -> None:
        """End a phase."""
        now = time.perf_counter()
        self.seconds[phase], self._last = now - self._last, now

    def cpu(self) -> float:
        """Return the seconds that the processor has worked for this process since the start."""
        return time.process_time() - self._cpu
