"""Quotients, maxima and minima of sizes, in the normal form of sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial, reduce
from math import floor, gcd

from swdc.capture.size_bounds import bounds
from swdc.capture.size_sums import Atom, Sum, number


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


def ceil_div(a: Sum, b: Sum) -> Sum:
    """Return ``a / b``, rounded up; ``b`` is positive."""
    return -floor_div(-a, b)


def _cancelled(a: Sum, b: Sum) -> tuple[Sum, Sum]:
    """Return two sizes without the positive factors that all products of both share."""
    shared = reduce(gcd, (*a.terms.values(), *b.terms.values()), 0)
    products: list[Counter[Atom]] = [Counter(product) for product in (*a.terms, *b.terms)]
    in_all = reduce(lambda one, other: one & other, products)
    common: Counter[Atom] = Counter({atom: times for atom, times in in_all.items() if not atom.of})
    if shared <= 1 and not common:
        return a, b

    def left(size: Sum) -> Sum:
        terms = [(Counter(product), times // shared) for product, times in size.terms.items()]
        return Sum({tuple(sorted((p - common).elements(), key=lambda atom: atom.key)): times for p, times in terms})

    return left(a), left(b)


def _by_symbols(a: Sum, b: Sum) -> Sum:
    cancelled = _cancelled(a, b)
    if cancelled != (a, b):
        return floor_div(*cancelled)
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


@cache
def lowered(a: Sum) -> Sum:
    """Return a size in which quotients that are rounded up are written with such that are rounded down.

    Sizes that the normal form takes for two may then be one, such as ``x // 2 + (x + 1) // 2`` and ``x``. What stands
    behind is Hermite's identity for two: ``x // m == x // (2 * m) + (x + m) // (2 * m)``.
    """
    total = number(0)
    for product, times in a.terms.items():
        total = total + reduce(Sum.__mul__, map(_lowered, product), number(times))
    return total


def _lowered(atom: Atom) -> Sum:
    if not atom.of:
        return Sum({(atom,): 1})
    found = _FUNCTIONS[atom.kind](*map(lowered, atom.of))
    if found != Sum({(atom,): 1}):
        return lowered(found)
    rest, by = atom.of[0], atom.of[1].constant
    half, odd = divmod(by or 1, 2)
    if atom.kind != "//" or odd or rest.terms.get((), 0) < half:
        return found
    before = rest - number(half)
    return lowered(floor_div(before, number(half))) - lowered(floor_div(before, number(2 * half)))
