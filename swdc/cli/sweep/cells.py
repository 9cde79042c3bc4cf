"""What a sweep goes over: bounds of the coefficient, targets and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from swdc.errors import CommandError


@dataclass(frozen=True, order=True)
class Cell:
    """One training: the bounds of the coefficient, the share to remove, and the seed."""

    target: float
    a_max: float
    a_min: float
    seed: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Cell:
        """Return the cell of a trial's parameters."""
        return cls(params["target"], params["a_max"], params["a_min"], int(params["seed"]))

    def params(self) -> dict[str, Any]:
        """Return the parameters of a trial."""
        return asdict(self)

    def __str__(self) -> str:
        return f"a from {self.a_min:g} to {self.a_max:g}, target {self.target:g}, seed {self.seed}"


@dataclass(frozen=True)
class Space:
    """The values of a sweep: all their combinations are its grid, and they bound what a sampler may draw."""

    a_min: tuple[float, ...]
    a_max: tuple[float, ...]
    target: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """Raise ``CommandError`` for bounds that are not positive and targets that are not shares."""
        for name, values in (("a_min", self.a_min), ("a_max", self.a_max)):
            if not values or not all(0 < value < math.inf for value in values):
                raise CommandError(f"expected positive numbers for {name}, got {list(values)}")
        if not self.target or not all(0 < value < 1 for value in self.target):
            raise CommandError(
                f"expected targets (the share that is removed) between 0 and 1, got {list(self.target)}; write 0.9 "
                f"for 90 %"
            )

    def cells(self) -> list[Cell]:
        """Return the grid, in order; seeds come last, so that every place is seen once before any is seen twice."""
        places = product(self.seeds, self.target, self.a_max, self.a_min)
        return list(dict.fromkeys(Cell(target, a_max, a_min, seed) for seed, target, a_max, a_min in places))


def parse_values(text: str, name: str) -> tuple[float, ...]:
    """Return the numbers in ``0.1,1,10``, or the powers of ten in ``1e-4:1e-1``, both ends included.

    Raises ``CommandError`` for text of another form.
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        low, high = (math.log10(float(part)) for part in text.split(":"))
    except ValueError as error:
        raise CommandError(
            f"expected numbers for {name} as 0.1,1,10 or the powers of ten of a range as 1e-4:1e-1, got {text!r}"
        ) from error
    if low > high or abs(low - round(low)) > 1e-9:
        raise CommandError(f"expected a range for {name} that rises from a power of ten, got {text!r}; write 1e-4:1e-1")
    return tuple(float(f"1e{exponent}") for exponent in range(round(low), math.floor(high + 1e-9) + 1))
