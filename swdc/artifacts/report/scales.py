"""Scales of pictures: which numbers stand at an axis, and where."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_TICKS = 7


@dataclass(frozen=True)
class Scale:
    """A linear scale: the values ``low`` to ``high`` stand at ``start`` to ``end``, in units of the picture."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, space: float = 0.06) -> Scale:
        """Return a scale that shows all values, with some space at its ends."""
        every = list(values)
        low, high = min(every), max(every)
        beside = (high - low) * space or abs(high) * space or 1.0
        return cls(low - beside, high + beside, start, end)

    def at(self, value: float) -> float:
        """Return where a value stands, to a tenth of a unit."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round numbers on the scale, about seven at most."""
        rough = (self.high - self.low) / _MOST_TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in _STEPS if power * factor >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
