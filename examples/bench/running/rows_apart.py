"""A row for each network, measured in a process of its own, unless it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from examples.bench.coverage.rows import Settings, preload
from examples.bench.running.apart import Task, run_apart
from examples.bench.running.row_files import Row


def rows_apart(
    task: Task, wanted: Sequence[str], found: Mapping[str, Row], settings: Settings, announce: Callable[[str], None]
) -> Iterator[Row]:
    """Yield the row of each network: the one that is known, or what ``task(report, library, name, seed)`` reports."""
    for name in wanted:
        announce(name)
        yield found.get(name) or _row(task, name, settings)


def _row(task: Task, name: str, settings: Settings) -> Row:
    start = time.perf_counter()
    library = settings.library
    outcome = run_apart(task, (library, name, settings.seed), settings.limits, preload(library))
    return {
        "library": library, "name": name, **outcome.found, "seed": settings.seed, "kind": outcome.kind,
        "reason": outcome.reason, "versions": settings.versions, "time_limit": settings.limits.seconds,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
