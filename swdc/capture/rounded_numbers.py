"""Numbers that a model's code computes from one size with a factor such as 0.7, and rounds.

Python computes such a number in floating point, so that 0.29 of 100 rounds down to 28. A quotient of whole numbers
stands for it, as far as both are found to be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from swdc.capture.claims import Claim
from swdc.capture.guards import Guards
from swdc.capture.real_numbers import Real
from swdc.capture.size_algebra import ceil_div, floor_div
from swdc.capture.size_sums import ONE, Sum, number, symbol, value_of
from swdc.ops.number_nodes import NUMBERS

_LARGEST = 2**20
"""How far both are compared; a larger size is refused."""
_LARGEST_DENOMINATOR = 1000
_WIDE = 4
"""How many times the size of the run has to be taken; otherwise it is fixed."""
_ARITHMETIC = ("real", "negative", "sum", "difference", "product", "quotient")


def _nearest(a: Sum, b: Sum) -> Sum:
    """Return the nearest whole number, and the even one of two: what is halfway is rounded up, and back if odd."""
    double, four = a + a + b, number(4) * b
    halfway_and_odd = floor_div(double + b + b, four) - floor_div(double + b + b - ONE, four)
    return floor_div(double, b + b) - halfway_and_odd


_ROUNDED: Mapping[str, tuple[Callable[[Sum, Sum], Sum], Callable[[Any], Any]]] = {
    "floor": (floor_div, np.floor), "ceil": (ceil_div, np.ceil), "round": (_nearest, np.rint),
}  # fmt: skip


def rounded(real: Real, guards: Guards, how: str) -> Sum | None:
    """Return a rounded number, which is not negative, as a size; ``None`` if it is not known to be one."""
    ratio = _ratio(real, guards)
    if ratio is None or len(ratio[0].symbols) != 1 or not Claim(">=", ratio[0]).proven():
        return None
    (name,) = ratio[0].symbols
    exact, plain = _ROUNDED[how]
    size, sizes = exact(ratio[0], number(ratio[1])), {name: np.arange(1, _LARGEST + 1)}
    try:
        same = plain(_values(real, guards, sizes)) == value_of(size, sizes)  # type: ignore[arg-type]
    except (TypeError, ValueError, KeyError):  # an extreme of sizes, or another function
        return None
    largest = _LARGEST if same.all() else int(same.argmin())
    if largest < _WIDE * guards.hints[name]:
        return None
    guards.note(Claim(">=", number(largest) - symbol(name)))
    return size


def _ratio(part: Any, guards: Guards) -> tuple[Sum, int] | None:
    """Return a number as a size and what it is divided by, with simple fractions for factors."""
    if isinstance(part, Sum):
        return guards.settled(part), 1
    if not isinstance(part, Real):
        near = Fraction(part).limit_denominator(_LARGEST_DENOMINATOR)
        return (number(near.numerator), near.denominator) if float(near) == part else None
    ratios = [_ratio(inner, guards) for inner in part.parts]
    if part.operation not in _ARITHMETIC or None in ratios:
        return None
    (a, b), (c, d) = (*ratios, (ONE, 1))[:2]  # type: ignore[misc]
    if part.operation == "quotient":
        by = c.constant
        return (a * number(d), b * by) if by and by > 0 else None
    found = {
        "real": (a, b), "negative": (-a, b), "product": (a * c, b * d), "sum": (a * number(d) + c * number(b), b * d),
        "difference": (a * number(d) - c * number(b), b * d),
    }  # fmt: skip
    return found[part.operation]


def _values(part: Any, guards: Guards, sizes: Mapping[str, Any]) -> Any:
    """Return what Python computes for a number at each of the sizes."""
    if isinstance(part, Sum):
        return value_of(guards.settled(part), sizes)
    if not isinstance(part, Real):
        return part
    values = [_values(inner, guards, sizes) for inner in part.parts]
    return values[0] * 1.0 if part.operation == "real" else NUMBERS[part.operation](*values)
