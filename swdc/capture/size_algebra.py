"""Sizes as exact expressions over named symbols, in a normal form, so that equal sizes are equal objects.

A size is a sum of products. The factors of a product are symbols, quotients rounded down, and maxima or minima.
Remainders and quotients that are rounded up are sums of these. A symbol is the size of a dimension, and at least 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, partial, reduce
from math import ceil, floor, gcd
from typing import Any

Product = tuple["Atom", ...]


@dataclass(frozen=True)
class Atom:
    """A symbol (``kind`` is its name), a quotient (``//``) of two sums, or ``max`` or ``min`` of two."""

    kind: str
    of: tuple[Sum, ...] = ()

    @cached_property
    def key(self) -> str:
        """The atom as text."""
        return f"{self.kind}({','.join(part.key for part in self.of)})" if self.of else self.kind

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Atom) and self.key == other.key)


class Sum:
    """A sum of products, each with a factor that is a number. Two sums are equal if their normal forms are."""

    def __init__(self, terms: Mapping[Product, Any]) -> None:
        self.terms = {product: times for product, times in terms.items() if times}

    @cached_property
    def key(self) -> str:
        """The normal form as text."""
        parts = sorted(("*".join(a.key for a in product), times) for product, times in self.terms.items())
        return "+".join(f"{times}*{text}" if text else str(times) for text, times in parts) or "0"

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Sum) and self.terms == other.terms)

    def __repr__(self) -> str:
        return self.key

    @cached_property
    def constant(self) -> int | None:
        """The number that this sum is; ``None`` if it depends on a symbol."""
        return None if any(self.terms.keys() - {()}) else self.terms.get((), 0)

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        """All symbols, quotients and extremes in it, those inside of others before these."""
        found: dict[Atom, None] = {}
        for atom in (atom for product in self.terms for atom in product):
            found.update(dict.fromkeys(inner for part in atom.of for inner in part.atoms))
            found[atom] = None
        return tuple(found)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of its atoms."""
        return frozenset(atom.key for atom in self.atoms)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The names of the symbols in it."""
        return frozenset(atom.kind for atom in self.atoms if not atom.of)

    def __add__(self, other: Sum) -> Sum:
        terms = dict(self.terms)
        for product, times in other.terms.items():
            terms[product] = terms.get(product, 0) + times
        return Sum(terms)

    def __neg__(self) -> Sum:
        return Sum({product: -times for product, times in self.terms.items()})

    def __sub__(self, other: Sum) -> Sum:
        return self + -other

    def __mul__(self, other: Sum) -> Sum:
        terms: dict[Product, Any] = {}
        for one, a in self.terms.items():
            for two, b in other.terms.items():
                product = tuple(sorted((*one, *two), key=lambda atom: atom.key)) if one and two else one or two
                terms[product] = terms.get(product, 0) + a * b
        return Sum(terms)


def number(value: int | Fraction) -> Sum:
    """Return a constant size."""
    return Sum({(): value})


def symbol(name: str) -> Sum:
    """Return a symbol."""
    return Sum({(Atom(name),): 1})


ONE = number(1)


@cache
def floor_div(a: Sum, b: Sum) -> Sum:
    """Return ``a // b``; ``b`` is positive."""
    by = b.constant
    if by is None:
        return _by_symbols(a, b)
    whole, rest = Sum({p: t // by for p, t in a.terms.items()}), Sum({p: t % by for p, t in a.terms.items()})
    divisor = reduce(gcd, (t for p, t in rest.terms.items() if p), by)
    rest = Sum({p: t // divisor for p, t in rest.terms.items()})
    by //= divisor
    if by == 1 or rest.constant is not None:
        return whole + (rest if by == 1 else number(rest.terms.get((), 0) // by))
    (product, times), *others = [(p, t) for p, t in rest.terms.items() if p]
    inner = product[0]
    if not others and times == 1 and len(product) == 1 and inner.kind == "//" and inner.of[1].constant:
        num, den = inner.of
        return whole + floor_div(num + number(rest.terms.get((), 0)) * den, den * number(by))
    low, high = bounds(rest)
    if low is not None and high is not None and floor(low / by) == floor(high / by):
        return whole + number(floor(low / by))
    return whole + Sum({(Atom("//", (rest, number(by))),): 1})


def _by_symbols(a: Sum, b: Sum) -> Sum:
    whole, rest = number(0), a
    lead, times = max(b.terms.items(), key=lambda term: (len(term[0]), [x.key for x in term[0]]))
    for _ in range(len(a.terms)):
        found = next((p for p, t in rest.terms.items() if t % times == 0 and not Counter(lead) - Counter(p)), None)
        if found is None:
            break
        left = tuple(sorted((Counter(found) - Counter(lead)).elements(), key=lambda atom: atom.key))
        part = Sum({left: rest.terms[found] // times})
        whole, rest = whole + part, rest - part * b
    if rest.constant == 0:
        return whole
    if len(b.terms) > 1:
        whole, rest = number(0), a
    return whole + Sum({(Atom("//", (rest, b)),): 1})


def extreme(kind: str, a: Sum, b: Sum) -> Sum:
    """Return the ``max`` or ``min`` of two sizes."""
    low, high = bounds(a - b)
    if low is not None and low >= 0:
        return a if kind == "max" else b
    if high is not None and high <= 0:
        return b if kind == "max" else a
    return Sum({(Atom(kind, tuple(sorted((a, b), key=lambda part: part.key))),): 1})


_FUNCTIONS: Mapping[str, Callable[[Sum, Sum], Sum]] = {
    "//": floor_div, "max": partial(extreme, "max"), "min": partial(extreme, "min"),
}  # fmt: skip


def rewritten(a: Sum, replaced: Mapping[str, Sum]) -> Sum:
    """Return a size with atoms, which are given by their keys, replaced by sizes."""
    if not a.keys & replaced.keys():
        return a
    total = number(0)
    for product, times in a.terms.items():
        total = total + reduce(Sum.__mul__, (_rewritten(atom, replaced) for atom in product), number(times))
    return total


def _rewritten(atom: Atom, replaced: Mapping[str, Sum]) -> Sum:
    if atom.key in replaced:
        return replaced[atom.key]
    if not atom.of:
        return Sum({(atom,): 1})
    return _FUNCTIONS[atom.kind](*(rewritten(part, replaced) for part in atom.of))


def value_of(a: Sum, sizes: Mapping[str, int]) -> int:
    """Return the value of a size, given those of its symbols."""
    total = 0
    for product, times in a.terms.items():
        for atom in product:
            times *= _value(atom, sizes)
        total += times
    return total


def _value(atom: Atom, sizes: Mapping[str, int]) -> int:
    if not atom.of:
        return sizes[atom.kind]
    one, other = (value_of(part, sizes) for part in atom.of)
    return one // other if atom.kind == "//" else max(one, other) if atom.kind == "max" else min(one, other)


Bounds = tuple[Any, Any]  # a lower and an upper bound; ``None`` if there is none


@cache
def bounds(a: Sum) -> Bounds:
    """Return bounds of a size, for all sizes of its symbols from 1 on. They need not be the tightest."""
    low, high = _low(a), _low(-a)
    whole: Callable[[Any], Any] = ceil if all(type(times) is int for times in a.terms.values()) else lambda x: x
    return None if low is None else whole(low), None if high is None else -whole(high)


def _low(a: Sum) -> Any:
    found = [_sum_of_lows(a), *(_low(relaxed) for relaxed in (_relaxed(a), _paired(a)) if relaxed is not None)]
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
