"""Claims on sizes: that one is zero, is not zero, or is not negative; and what is known of them for all sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd

from swdc.capture.size_algebra import lowered
from swdc.capture.size_bounds import bounds
from swdc.capture.size_sums import ONE, Atom, Sum, number, value_of

_LARGEST = 2**40
"""No tensor has a size like that; torch compares sizes with the largest number that stands for the end."""


@dataclass(frozen=True)
class Claim:
    """That a size is zero (``==``), is not zero (``!=``), or is not negative (``>=``)."""

    relation: str
    size: Sum

    def negated(self) -> Claim:
        """Return the opposite claim."""
        if self.relation == ">=":
            return Claim(">=", -self.size - ONE)
        return Claim("!=" if self.relation == "==" else "==", self.size)

    @property
    def equates(self) -> bool:
        """Whether it says that a size is zero: that it is, or that it is at least its upper bound, which is zero."""
        return self.relation == "==" or (self.relation == ">=" and bounds(self.size)[1] == 0)

    def as_equality(self) -> Claim:
        """Return that a size of two possible values is the other one, if this says that it is not the one."""
        low, high = bounds(self.size) if self.relation == "!=" else (None, None)
        if low is None or high is None or high - low != 1 or low * high != 0:
            return self
        return Claim("==", self.size - number(low + high))

    def proven(self) -> bool | None:
        """Return whether it is true for all sizes of the symbols; ``None`` if that is not known."""
        found = self._proven()
        other = Claim(self.relation, lowered(self.size)) if found is None else self
        return found if other == self else other._proven()

    def _proven(self) -> bool | None:
        low, high = bounds(self.size)
        if self.relation == ">=":
            return True if low is not None and low >= 0 else False if high is not None and high < 0 else None
        apart = (low is not None and low > 0) or (high is not None and high < 0)
        apart = apart or abs(self.size.terms.get((), 0)) > _LARGEST
        equal = True if self.size.constant == 0 else False if apart else None
        return equal if self.relation == "==" or equal is None else not equal

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is true for given sizes."""
        value = value_of(self.size, sizes)
        return value >= 0 if self.relation == ">=" else (value == 0) == (self.relation == "==")


def primitive(size: Sum) -> Sum:
    """Return a size without a positive factor that all its products share: zero, and what is not negative, stay so."""
    shared = reduce(gcd, size.terms.values(), 0)
    first, *others = [Counter(product) for product in size.terms] or [Counter()]
    common = {atom for atom in first if not atom.of and all(product[atom] for product in others)}
    if shared <= 1 and not common:
        return size
    left = [(list(product), times // shared) for product, times in size.terms.items()]
    for product, _ in left:
        for atom in common:
            product.remove(atom)
    return Sum({tuple(product): times for product, times in left})


def multiple_of(size: Sum) -> tuple[Atom | None, int]:
    """Return the atom that a size is a multiple of, and how many times it is that; ``None`` if it is more than that."""
    (product, times), *more = [*size.terms.items()] or [((), 0)]
    return (product[0], times) if not more and times > 0 and len(product) == 1 else (None, 0)


def without_number(size: Sum) -> Sum:
    """Return a size without the number that is added in it."""
    return Sum({product: times for product, times in size.terms.items() if product})


def atom_of(size: Sum) -> Atom | None:
    """Return the atom that a size is; ``None`` if it is more than that."""
    atom, times = multiple_of(size)
    return atom if times == 1 else None
