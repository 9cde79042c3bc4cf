"""For which sizes of its inputs a program stands: conditions on symbols, and the sizes that are fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

import sympy

from swdc.ir.sizes import Size, evaluate

AXES = frozenset({"batch", "channels", "depth", "edges", "height", "length", "nodes", "points", "width"})
"""The names of sizes that may change; where one occurs twice, a number follows it."""


def is_axis(name: str) -> bool:
    """Whether a symbol has a name that users know: it is a size of an input, and not one that values tell."""
    return not AXES.isdisjoint((name, name.rpartition("_")[0]))


@dataclass(frozen=True)
class Condition:
    """That ``size`` is in a ``relation`` to a number; ``source`` is the line of the user's code that asks it."""

    size: Size
    relation: str
    number: int
    source: str = ""

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is true for given sizes of the symbols."""
        (value,) = evaluate((self.size,), sizes)
        return bool(self.met_by(value))

    def met_by(self, value: Any) -> Any:
        """Return whether a value of ``size`` meets it; the value may be a symbol that is compared later."""
        match self.relation:
            case "==":
                return value == self.number
            case "!=":
                return value != self.number
            case ">=":
                return value >= self.number
        return value <= self.number

    @property
    def symbols(self) -> frozenset[str]:
        """The names of the symbols in it."""
        return frozenset() if isinstance(self.size, int) else frozenset(map(str, self.size.free_symbols))

    @property
    def excludes_one(self) -> bool:
        """Whether it says no more than that a size is not one."""
        return (self.relation, self.number) in (("!=", 1), (">=", 2)) and self.symbols == {str(self.size)}

    @property
    def text(self) -> str:
        """The condition as Python code."""
        name = str(self.size)
        if name.startswith("Mod(") and name.endswith(")") and name.count(",") == 1:
            name = "{} % {}".format(*name[4:-1].split(", "))
        return f"{name} {self.relation} {self.number}"

    def __str__(self) -> str:
        return f"{self.text} ({self.source})" if self.source else self.text


def not_empty(name: str, source: str = "") -> Condition:
    """Return the condition that the size with a name is at least one."""
    return Condition(sympy.Symbol(name, integer=True, positive=True), ">=", 1, source)


@dataclass(frozen=True)
class FixedSize:
    """That dimension ``dim`` of an input has the ``size`` of the example, which a line of the user's code asks."""

    name: str
    dim: int
    size: int
    source: str = ""

    def __str__(self) -> str:
        return f"dimension {self.dim} of {self.name} is {self.size}" + (f" ({self.source})" if self.source else "")


def broken(conditions: tuple[Condition, ...], sizes: Mapping[str, int]) -> Condition | None:
    """Return the first condition that does not hold for given sizes."""
    return next((c for c in conditions if c.symbols <= sizes.keys() and not c.holds(sizes)), None)


def steps(conditions: Iterable[Condition]) -> dict[str, int]:
    """Return for each symbol that has to be a multiple of a number the least such multiple."""
    found: dict[str, int] = {}
    for condition in conditions:
        size: Any = condition.size
        if (condition.relation, condition.number) == ("==", 0) and type(size).__name__ == "Mod":
            symbol, step = size.args  # of torch's own class
            if symbol.is_Symbol and step.is_number:
                found[str(symbol)] = lcm(found.get(str(symbol), 1), int(step))
    return found


def leaves_remainders(conditions: Iterable[Condition]) -> Callable[[str, int], bool]:
    """Return whether a size of the symbol with a name leaves the remainders that conditions ask of it alone."""
    asked = [
        c for c in conditions if type(c.size).__name__ == "Mod" and c.relation in ("==", "!=") and len(c.symbols) == 1
    ]

    def fits(name: str, size: int) -> bool:
        return all(c.holds({name: size}) for c in asked if name in c.symbols)

    return fits
