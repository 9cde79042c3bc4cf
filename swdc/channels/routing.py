"""Routing: the cheapest operators that turn the channels of one value into those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import fx

SLICE, GATHER, PAD = "slice", "gather", "pad"


@dataclass(frozen=True)
class Step:
    """One operator: ``slice`` from ``first`` to ``last``, ``gather`` of ``indices``, or ``pad`` with zeros.

    A pad puts ``first`` zeros before the channels and ``last`` zeros after them.
    """

    kind: str
    first: int = 0
    last: int = 0
    indices: tuple[int, ...] = ()

    def size(self, before: int) -> int:
        """Return the number of channels afterwards."""
        if self.kind == SLICE:
            return self.last - self.first
        return before + self.first + self.last if self.kind == PAD else len(self.indices)


@dataclass(frozen=True)
class Routed:
    """A value whose channels along ``dim`` are to match those of another value.

    ``take`` gives, for each channel of the other value, its index among the ``width`` channels of ``value``, or -1 if
    it is to be zero.
    """

    value: fx.Node
    dim: int
    width: int
    take: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the value is left."""
        return max(self.take) < 0

    def steps(self) -> list[Step]:
        """Return the operators: none, a slice or a pad if channels stay in a row, else a gather.

        For missing channels, a pad adds one channel of zeros at the end, and the gather takes it. No scatter is needed.
        """
        if self.is_empty:
            return self._with_zeros()
        here = [place for place, source in enumerate(self.take) if source >= 0]
        before, after = here[0], len(self.take) - 1 - here[-1]
        middle = self.take[before : len(self.take) - after]
        steps: list[Step] = []
        if _in_a_row(middle):
            if len(middle) < self.width:
                steps.append(Step(SLICE, middle[0], middle[-1] + 1))
        elif min(middle) >= 0:
            steps.append(Step(GATHER, indices=middle))
        else:
            return self._with_zeros()
        return [*steps, Step(PAD, before, after)] if before or after else steps

    def _with_zeros(self) -> list[Step]:
        return [Step(PAD, 0, 1), Step(GATHER, indices=tuple(s if s >= 0 else self.width for s in self.take))]


@dataclass(frozen=True)
class LaidOut:
    """A value in the usual memory layout, for operators that do not take every other."""

    value: fx.Node


def _in_a_row(indices: Sequence[int]) -> bool:
    return all(other == one + 1 for one, other in pairwise(indices)) and indices[0] >= 0
