"""The k-th smallest of many numbers, searched near the last result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.intp]
Numbers = Callable[[], Iterable[Array]]
"""Reads all numbers, array by array, each time that it is called. An array holds until the next one is read."""
Marks = Callable[[], Iterable[npt.NDArray[np.bool_]]]
"""Returns, for each of these arrays, the marks to write: an array of its shape."""

_SAMPLE = 16384
_CROWDED = 1 / 8
_LARGEST = 2.0**127
_LEAST = 2.0**-10  # of the threshold: training moves it by about as much in a step


class Bracket:
    """Finds the k-th smallest of many numbers, exactly and without sorting them.

    One pass marks the numbers up to the lower end of a bracket and collects those inside. If the k-th is among them,
    it is selected from these few, and those up to it are marked, too. If not, the next bracket is wider: first around
    the last result, then around the quantile of a sample, finally everything. What is remembered changes the time only,
    never the result.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._reach, self._crowded = 0.0, False
        self.marked = 0
        """How many numbers are at most the last result: more than the count if several tie for the last place."""

    def smallest(self, numbers: Numbers, count: int, total: int, marks: Marks) -> Any:
        """Return the ``count``-th smallest of ``total`` numbers as a numpy scalar of their type.

        Those that are at most as large are marked, and no others.
        """
        for low, high in self._brackets(numbers, count, total):
            below, collected = _survey(numbers(), marks(), low, high)
            inside = np.concatenate([np.zeros(0, dtype=np.float32), *(values for _, _, values in collected)])
            if below < count <= below + len(inside):
                found = np.partition(inside, count - below - 1)[count - below - 1]
                for marked, places, values in collected:
                    marked[places] = values <= found
                self.marked = below + int(np.count_nonzero(inside <= found))
                self._remember(float(found), len(inside) > _CROWDED * total)
                return found
            if below >= count > _number_under(numbers(), low):
                self.marked = below
                return low  # the k-th number equals it
        raise AssertionError("a bracket of everything holds every number")

    def _brackets(self, numbers: Numbers, count: int, total: int) -> Iterator[tuple[np.float32, np.float32]]:
        """Yield brackets without their lower end, in float32, with which numbers of all types compare alike."""
        if self._last is not None:
            yield _single(self._last if self._crowded else self._last - self._reach), _single(self._last + self._reach)
        sample = np.sort(_sample(numbers(), total // _SAMPLE + 1))
        rank = count / total * len(sample)
        margin = 4 * math.sqrt(max(rank * (1 - rank / len(sample)), 0)) + 2
        first, last = math.floor(rank - margin), math.ceil(rank + margin)
        yield (
            _single(sample[first] if first >= 0 else -np.inf),
            _single(sample[last] if last < len(sample) else np.inf),
        )
        yield np.float32(-np.inf), np.float32(np.inf)

    def _remember(self, found: float, crowded: bool) -> None:
        moved = 0.0 if self._last is None else abs(found - self._last)
        self._reach = max(4 * moved, self._reach / 2, _LEAST * abs(found))
        self._last, self._crowded = found, crowded


def _survey(
    numbers: Iterable[Array], marks: Iterable[Array], low: np.float32, high: np.float32
) -> tuple[int, list[tuple[Array, Ids, Array]]]:
    """Mark the numbers that are at most ``low``, and return how many they are.

    Return also, for each array that has some, the marks, the places and the numbers above ``low`` and at most ``high``.
    """
    below, collected = 0, list[tuple[Array, Ids, Array]]()
    for values, marked in zip(numbers, marks, strict=True):
        np.less_equal(values, low, out=marked)
        below += int(np.count_nonzero(marked))
        upto = values <= high
        places = np.not_equal(marked, upto, out=upto).nonzero()[0]
        if len(places):
            collected.append((marked, places, values[places]))
    return below, collected


def _number_under(numbers: Iterable[Array], value: np.float32) -> int:
    return sum(int(np.count_nonzero(values < value)) for values in numbers)


def _sample(numbers: Iterable[Array], stride: int) -> Array:
    """Return every ``stride``-th number."""
    seen, found = 0, []
    for values in numbers:
        found.append(values[-seen % stride :: stride].copy())
        seen += values.size
    return np.concatenate(found)


def _single(value: float) -> np.float32:
    return np.float32(value if abs(value) < _LARGEST else math.copysign(math.inf, value))
