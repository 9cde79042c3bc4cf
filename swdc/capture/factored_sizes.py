"""Sizes as products of sums: what a product of window counts is at least, whose terms alone do not tell it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import sympy

from swdc.capture.claims import Claim
from swdc.capture.size_bounds import bounds
from swdc.capture.size_sums import Sum, number

_MANY = 3
"""Sums of so many terms may be products of sums."""


def is_large(claim: Claim) -> bool:
    """Whether a claim says no more of a product than that it is as large as its factors make it."""
    if claim.relation != ">=" or len(claim.size.terms) < _MANY:
        return False
    least = -claim.size.terms.get((), 0)
    found = 1
    for factor, power in _factors(claim.size + number(least)):
        low, high = bounds(factor)
        if low is not None and low >= 0:
            found *= int(low) ** power
        elif power % 2 == 0:
            found *= max(0, -int(high) if high is not None else 0) ** power
        else:
            return False
    return bool(found >= least)


def _factors(size: Sum) -> Iterator[tuple[Sum, int]]:
    """Yield factors that a size is the product of, each with its power."""
    names = {atom: sympy.Symbol(f"atom_{number}") for number, atom in enumerate(size.atoms)}
    total = sympy.Integer(0)
    for product, times in size.terms.items():
        total += reduce(lambda term, atom: term * names[atom], product, sympy.Integer(times))
    times, factors = sympy.factor_list(total)
    signs = int(times)
    for factor, power in factors:
        found = number(0)
        for powers, count in sympy.Poly(factor, *names.values()).as_dict().items():
            atoms = [Sum({(atom,): 1}) for atom, n in zip(names, powers, strict=True) for _ in range(n)]
            found = found + reduce(Sum.__mul__, atoms, number(int(count)))
        high = bounds(found)[1]
        if power % 2 and high is not None and high <= 0:
            found, signs = -found, -signs
        yield found, power
    yield number(signs), 1
