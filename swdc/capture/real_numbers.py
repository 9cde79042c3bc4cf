"""Floating-point numbers that a model's code computes from sizes, as the operations that compute them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from swdc.capture.size_sums import ONE, Sum, number
from swdc.ops.number_nodes import NUMBERS

_LARGEST = 2**20


@dataclass(frozen=True)
class Real:
    """A number that ``operation`` of ``NUMBERS`` computes of its ``parts``; ``hint`` is its value in the run.

    ``ratio`` gives it as a quotient of two sizes, the second positive, if it is exactly that.
    """

    operation: str
    parts: tuple[Any, ...]
    hint: float
    ratio: tuple[Sum, Sum] | None = None


def ratio_of(part: Any) -> tuple[Sum, Sum] | None:
    """Return a number as a quotient of two sizes, if it is exactly that and the sizes are small."""
    if isinstance(part, Sum):
        return part, ONE
    if isinstance(part, Real):
        return part.ratio
    exact = Fraction(part) if math.isfinite(part) else None
    if exact is None or exact.denominator > _LARGEST or abs(exact.numerator) > _LARGEST:
        return None
    return number(exact.numerator), number(exact.denominator)


def computed(operation: str, parts: tuple[Any, ...], hints: Callable[[Sum], int]) -> Real:
    """Return the result of an operation on sizes, reals and plain numbers."""
    values = [hints(p) if isinstance(p, Sum) else p.hint if isinstance(p, Real) else p for p in parts]
    return Real(operation, parts, float(NUMBERS[operation](*values)), _ratio(operation, parts))


def _ratio(operation: str, parts: tuple[Any, ...]) -> tuple[Sum, Sum] | None:
    ratios = [ratio_of(part) for part in parts]
    if any(ratio is None for ratio in ratios):
        return None
    (a, b), (c, d) = (*ratios, (ONE, ONE))[:2]  # type: ignore[misc]
    found = {
        "real": (a, b), "negative": (-a, b), "product": (a * c, b * d), "sum": (a * d + c * b, b * d),
        "difference": (a * d - c * b, b * d), "quotient": (a * d, b * c),
    }.get(operation)  # fmt: skip
    if found is None or found[1].constant == 0:
        return None
    return (-found[0], -found[1]) if (found[1].constant or 1) < 0 else found
