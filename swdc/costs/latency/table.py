"""A table of measured times: layers are measured once on a machine at some widths, and interpolated between them."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from swdc.costs.latency.cache import Cache, Times
from swdc.costs.latency.interpolation import Grid
from swdc.costs.latency.measuring import Announce, Probe, parts, times_ms
from swdc.costs.latency.operator_kinds import Layer, Sizes
from swdc.costs.latency.runtimes import Run, timed_by
from swdc.errors import PlanError
from swdc.ir.argument_types import checked

_DISTURBED = 1.05
"""A time this much above that of more channels was disturbed by something else on the machine."""
_REPEATS = 2
"""How often the times that were disturbed are measured again at most."""
_log = logging.getLogger(__name__)


class LatencyTable:
    """Says how long layers take. Subclass it to plan for other hardware, or by a formula."""

    def prepare(self, layers: Iterable[Layer]) -> None:
        """Prepare the times of these layers at sizes up to their largest; larger sizes are never asked for."""

    def ms(self, layer: Layer, sizes: Sizes) -> float:
        """Return the time of a layer at some sizes, in milliseconds."""
        raise TypeError(f"{type(self).__name__} has to say how long a layer takes")


class MeasuredTable(LatencyTable):
    """Times in onnxruntime on this machine; times that the cache lacks are measured.

    ``announce`` is called with a text that names the work, the number of times measured, and their total number.
    ``measure`` returns the times of layers at given sizes in milliseconds. Raises ``PlanError`` for arguments of other
    types, or fewer than one thread.
    """

    @checked(PlanError)
    def __init__(
        self,
        threads: int = 1,
        announce: Announce | None = None,
        cache: Cache | None = None,
        measure: Callable[[Sequence[Probe], int], list[float]] = times_ms,
    ) -> None:
        if threads < 1:
            raise PlanError(f"expected at least one thread, got {threads}; give the number that the device will use")
        self.threads = threads
        self._announce = announce
        self._cache = Cache(threads) if cache is None else cache
        self._measure = measure
        self._times: Times | None = None
        self._grids: dict[Layer, Grid] = {}
        self._known: dict[tuple[Layer, Sizes], float] = {}

    @classmethod
    @checked(PlanError)
    def of_runtime(
        cls, run: Run, folder: str | os.PathLike[str], threads: int = 1, announce: Announce | None = None
    ) -> MeasuredTable:
        """Return a table of times in another runtime, which are kept in a folder of their own.

        ``run(model, inputs, threads)`` gets one layer as an ONNX model (bytes), its inputs by name (arrays of float32)
        and the number of threads, and returns the milliseconds of a run. The layer's node and its output are called
        ``layer0``, so that the profile of a runtime can tell its time from that of the call. Behind it stands a
        ``ReduceMax``, so that no large result leaves the model; before pools stands a convolution of one by one.
        Choose a folder for each runtime and each machine. If ``run`` returns anything but a positive number,
        ``prepare``, ``ms`` and ``swdc.plan`` raise ``PlanError``.

        A clock by the size of the model::

            table = swdc.MeasuredTable.of_runtime(lambda model, inputs, threads: len(model) / 1000, "times")
            plan = swdc.plan(program, 0.5, budget="channels", table=table)
        """
        return cls(threads, announce, Cache(threads, Path(folder)), timed_by(run))

    def prepare(self, layers: Iterable[Layer]) -> None:
        """Measure the times of these layers that are not known yet, and keep them on disk."""
        if self._times is None:
            self._times = self._cache.load()
        missing: dict[tuple[str, Sizes], Probe] = {}
        for layer in layers:
            if layer not in self._grids:
                self._grids[layer] = Grid(layer)
                found = self._times.setdefault(layer.signature, {})
                wanted = (point for point in self._grids[layer].points() if point not in found)
                missing |= {(layer.signature, point): (layer, point) for point in wanted}
        if missing:
            self._fill(list(missing.values()))

    def ms(self, layer: Layer, sizes: Sizes) -> float:
        """Return the time of a layer at some sizes, in milliseconds: measured, or linear between measured widths."""
        key = layer, sizes
        if key not in self._known:
            self.prepare((layer,))
            assert self._times is not None
            self._known[key] = self._grids[layer].at(sizes, self._times[layer.signature])
        return self._known[key]

    def _fill(self, probes: list[Probe]) -> None:
        """Measure in random order, so that a disturbance stands out; then measure the disturbed times again."""
        random.Random(0).shuffle(probes)
        self._take(probes, "measuring layers")
        for _ in range(_REPEATS):
            if again := self._disturbed(probes):
                self._take(again, "measuring again what was disturbed")

    def _take(self, probes: Sequence[Probe], text: str) -> None:
        assert self._times is not None
        _log.info("%s in onnxruntime: %d times", text, len(probes))
        done = 0
        for part in parts(probes):
            if self._announce is not None:
                self._announce(text, done, len(probes))
            taken: Times = {}
            for (layer, sizes), ms in zip(part, self._measure(part, self.threads), strict=True):
                known = self._times[layer.signature].get(sizes, ms)
                taken.setdefault(layer.signature, {})[sizes] = min(ms, known)
            for signature, found in taken.items():
                self._times[signature] |= found
            self._cache.add(taken)
            done += len(part)

    def _disturbed(self, probes: Sequence[Probe]) -> list[Probe]:
        """Return the probes that took longer than the next larger size along any axis."""
        assert self._times is not None
        found = []
        for layer, sizes in probes:
            times, axes = self._times[layer.signature], self._grids[layer].axes
            wider = [
                (*sizes[:place], above, *sizes[place + 1 :])
                for place, points in enumerate(axes)
                for above in [next((point for point in points if point > sizes[place]), None)]
                if above is not None
            ]
            if any(times[sizes] > _DISTURBED * times[one] for one in wider):
                found.append((layer, sizes))
        return found
