"""Which networks of a library trace, slim and are proven equal: one row for each, measured in its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from examples.bench.coverage.measure import measure_by_name
from examples.bench.networks.catalogue import versions
from examples.bench.peer.peer import SECONDS, blank_peer, measure_peer_by_name
from examples.bench.running.apart import Limits, run_apart
from examples.bench.running.row_files import Row, blank

PRELOAD = {"pyg": "torch_geometric.nn", "others": "examples.bench.networks.libraries.others"}
"""The module to import for a library before its networks are built, if it is not called like the library."""


@dataclass(frozen=True)
class Settings:
    """What a run of the bench is made with; ``peer`` measures Torch-Pruning on the same networks, too."""

    library: str = "core"
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    peer: bool = False

    @cached_property
    def versions(self) -> dict[str, str]:
        """The installed versions that rows are made with."""
        return versions(self.library)

    def same(self, row: Mapping[str, Any]) -> bool:
        """Whether a row was measured with these settings, so that our part of it need not be measured again."""
        fits = row.get("library") == self.library and row.get("seed") == self.seed
        enough = row.get("kind") != "time-out" or row.get("time_limit", 0) >= self.limits.seconds
        return fits and enough and row.get("versions") == self.versions

    def complete(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of these settings is complete; the peer's part may name the ``versions`` of an earlier run."""
        peer = row.get("peer")
        return not self.peer or (peer is not None and peer.get("versions", self.versions) == self.versions)


def zoo(
    names: Iterable[str],
    settings: Settings,
    known: Mapping[str, Row] | None = None,
    jobs: int = 1,
    announce: Callable[[str], None] = lambda name: None,
) -> Iterator[Row]:
    """Yield a row for each network as it is measured, ``jobs`` of them at a time.

    Half of each group's channels are cut, with random weights. ``reason`` is empty where everything holds: an exact
    certificate, enough parameters gone, an ONNX file that onnxruntime computes alike, and a transplant. Rows that are
    ``known`` are completed if something is missing in them.
    """
    rows = dict(known or {})

    def measured(name: str) -> Row:
        announce(name)
        row = rows.get(name) or measure_apart(name, settings)
        return row if settings.complete(row) else {**row, "peer": measure_peer_apart(name, settings)}

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(measured, name) for name in names]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def measure_apart(name: str, settings: Settings) -> Row:
    """Measure one network in a process of its own; whatever goes wrong there is in the row."""
    library = settings.library
    outcome = run_apart(measure_by_name, (library, name, settings.seed), settings.limits, preload(library))
    row = {
        **blank(library, name), **outcome.found, "seed": settings.seed, "versions": settings.versions,
        "time_limit": settings.limits.seconds,
    }  # fmt: skip
    if outcome.kind:
        row.update(kind=outcome.kind, reason=f"{outcome.kind} in {row['phase']}: {outcome.reason}")
    return row


def measure_peer_apart(name: str, settings: Settings) -> Row:
    """Measure what Torch-Pruning makes of a network; comparing and timing in pairs may take as long again, each."""
    limits = Limits(4 * SECONDS, settings.limits.gigabytes)
    library = settings.library
    outcome = run_apart(measure_peer_by_name, (library, name, settings.seed), limits, preload(library))
    row = {**blank_peer(), **outcome.found}
    if outcome.kind and not row["passes"]:
        row.update(kind=outcome.kind, reason=f"{outcome.kind} in {row['phase']}: {outcome.reason}")
    return row


def preload(library: str) -> tuple[str, str]:
    """Return the modules to import once for all processes that measure networks of a library."""
    return "examples.bench.running.warm", PRELOAD.get(library, library)
