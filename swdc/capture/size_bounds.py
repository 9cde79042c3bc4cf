"""Bounds of sizes, for all sizes of their symbols from 1 on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache, reduce
from math import ceil, floor
from typing import Any

from swdc.capture.size_sums import Atom, Sum, number

Bounds = tuple[Any, Any]  # a lower and an upper bound; ``None`` if there is none


@cache
def bounds(a: Sum) -> Bounds:
    """Return bounds of a size, for all sizes of its symbols from 1 on. They need not be the tightest."""
    low, high = _low(a), _low(-a)
    whole: Callable[[Any], Any] = ceil if all(type(times) is int for times in a.terms.values()) else lambda x: x
    return None if low is None else whole(low), None if high is None else -whole(high)


def _low(a: Sum) -> Any:
    found = [
        _sum_of_lows(a),
        *(_low(relaxed) for relaxed in (_relaxed(a), _paired(a), _parted(a)) if relaxed is not None),
    ]
    return max((low for low in found if low is not None), default=None)


_UNIT: Bounds = (1, 1)


def _sum_of_lows(a: Sum) -> Any:
    total: Any = 0
    for product, times in a.terms.items():
        low, high = reduce(_times, map(_bounds, product), _UNIT)
        bound: Any = low if times > 0 else high
        if bound is None:
            return None
        total += times * bound
    return total


def _paired(a: Sum) -> Sum | None:
    """Return a sum that is not greater: a difference of two quotients by one number becomes the least it can be."""
    alone = [(p[0], t) for p, t in a.terms.items() if len(p) == 1 and p[0].kind == "//" and p[0].of[1].constant]
    for one, times in alone:
        for other, less in alone:
            if times > 0 and times == -less and one.of[1] == other.of[1]:
                apart = (one.of[0] - other.of[0]).constant
                if apart is not None:
                    least = number(times * (apart // (one.of[1].constant or 1)))
                    return a - Sum({(one,): times, (other,): less}) + least
    return None


def _parted(a: Sum) -> Sum | None:
    """Return a sum that is not greater: of two quotients of one size, the smaller becomes a fraction of the larger."""
    alone = [(p[0], t) for p, t in a.terms.items() if len(p) == 1 and p[0].kind == "//" and p[0].of[1].constant]
    for one, times in alone:
        for other, less in alone:
            parts = Fraction(other.of[1].constant or 1, one.of[1].constant or 1)
            if one.of[0] == other.of[0] and parts > 1 and parts.denominator == 1 and times > 0 > less:
                return a - Sum({(other,): less}) + Sum({(one,): less / parts})
    return None


def _relaxed(a: Sum) -> Sum | None:
    """Return a sum that is not greater: one quotient in it is replaced by the fraction that bounds it."""
    quotients = [p for p in a.terms if len(p) == 1 and p[0].kind == "//" and p[0].of[1].constant]
    if not quotients:
        return None
    product = max(quotients, key=lambda product: len(product[0].key))  # those inside of others come later
    (num, den), times = product[0].of, a.terms[product]
    by = den.constant or 1
    bound = num if times < 0 else num - number(by - 1)
    return a - Sum({product: times}) + bound * number(Fraction(times, by))


def _bounds(atom: Atom) -> Bounds:
    if not atom.of:
        return 1, None
    (low, high), (least, most) = map(bounds, atom.of)
    if atom.kind == "//":
        if atom.of[1].constant:
            return _floor(low, least), _floor(high, least)
        return (0 if low is not None and low >= 0 else None), (high if low is not None and low >= 0 else None)
    pick: Callable[[Iterable[Any]], Any] = max if atom.kind == "max" else min
    both_low, both_high = [x for x in (low, least) if x is not None], [x for x in (high, most) if x is not None]
    lows = pick(both_low) if len(both_low) == 2 or (both_low and atom.kind == "max") else None
    highs = pick(both_high) if len(both_high) == 2 or (both_high and atom.kind == "min") else None
    return lows, highs


def _floor(a: Any, by: Any) -> Any:
    return None if a is None else floor(Fraction(a) / by)


def _times(one: Bounds, other: Bounds) -> Bounds:
    """Multiply bounds; those of a factor that may be negative are not followed."""
    if one[0] is None or other[0] is None or one[0] < 0 or other[0] < 0:
        return (None, None) if one != _UNIT else other
    return one[0] * other[0], None if one[1] is None or other[1] is None else one[1] * other[1]
