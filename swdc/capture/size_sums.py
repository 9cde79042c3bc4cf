"""Sizes as exact expressions over named symbols, in a normal form, so that equal sizes are equal objects.

A size is a sum of products. The factors of a product are symbols, quotients rounded down, and maxima or minima.
Remainders and quotients that are rounded up are sums of these. A symbol is the size of a dimension, and at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
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
        return hash(frozenset(self.terms.items()))

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
