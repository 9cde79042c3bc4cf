"""The sizes at which a layer is measured, and linear interpolation between them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from swdc.costs.latency.operator_kinds import CHANNELS, COUNT, KINDS, Layer, Sizes

BLOCK = 8
"""Kernels compute whole blocks of channels, of 8 or of 16: a width inside a block costs the whole block."""

_CHANNELS = (*range(8, 64, 8), *range(64, 256, 32), *range(256, 1024, 128), *range(1024, 4096, 512))
"""Every block at small widths, where one block matters much; fewer at larger widths."""


class Grid:
    """The points at which one layer is measured: an axis for each of its sizes."""

    def __init__(self, layer: Layer) -> None:
        self._kinds = KINDS[layer.operator].axes
        self._largest = layer.largest
        bounds = zip(self._kinds, layer.largest, layer.smallest, strict=True)
        self.axes = [axis(kind, largest, smallest) for kind, largest, smallest in bounds]

    def points(self) -> Iterator[Sizes]:
        """Yield the sizes to measure."""
        return product(*self.axes)

    def at(self, sizes: Sequence[int], times: Mapping[Sizes, float]) -> float:
        """Return the time between the points around some sizes, by linear interpolation along each axis."""
        corners: list[tuple[float, Sizes]] = [(1.0, ())]
        for kind, points, largest, size in zip(self._kinds, self.axes, self._largest, sizes, strict=True):
            whole = min(-(-size // BLOCK) * BLOCK, largest) if kind == CHANNELS else size
            around = _around(points, whole)
            corners = [(one * share, (*corner, point)) for one, corner in corners for share, point in around]
        return sum(share * times[corner] for share, corner in corners)


def axis(kind: str, largest: int, smallest: int) -> tuple[int, ...]:
    """Return the sizes between two bounds at which to measure, in ascending order; one if nothing changes."""
    if largest == smallest:
        return (largest,)
    if kind == CHANNELS:
        wider = range(4096, largest, 2048)
        inner = [size for size in (*_CHANNELS, *wider) if size < largest]
    elif kind == COUNT:
        inner = [1 << power for power in range(largest.bit_length()) if 1 << power < largest]
    else:
        inner = [1 << power for power in range(8, largest.bit_length() + 2, 2)]
        return tuple(inner) or (256,)
    least = max([size for size in inner if size <= smallest], default=0)
    return (*(size for size in inner if size >= least), largest)


def _around(points: Sequence[int], size: int) -> list[tuple[float, int]]:
    """Return the points next to a size, each with its share; beyond an end, only that end."""
    place = bisect_left(points, size)
    if place == 0 or place == len(points):
        return [(1.0, points[min(place, len(points) - 1)])]
    below, above = points[place - 1], points[place]
    share = (size - below) / (above - below)
    return [(1.0, above)] if share == 1.0 else [(1.0 - share, below), (share, above)]
