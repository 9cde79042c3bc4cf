"""Sizes of traced dimensions: an integer, or a sympy expression over named symbols (the batch, a number of nodes)."""

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

import sympy

Size = int | sympy.Expr
Shape = tuple[Size, ...]

# Distinct primes beyond any width in use: with symbols replaced by these, products of sizes match only where the
# symbolic products match, so that views can be analysed with integers.
_PRIMES = (1000003, 1000033, 1000037, 1000039, 1000081, 1000099, 1000117, 1000121, 1000133, 1000151)


def parse(text: str | int) -> Size:
    """Return the size written by ``str(size)``: an integer, or an expression over non-negative integer symbols."""
    if isinstance(text, int):
        return text
    names = {str(s) for s in sympy.sympify(text).free_symbols}
    symbols = {name: sympy.Symbol(name, integer=True, nonnegative=True) for name in names}
    return simplify(sympy.sympify(text, locals=symbols))


def simplify(expression: sympy.Expr) -> Size:
    """Return an ``int`` for a constant expression, the expression itself otherwise."""
    return int(expression) if expression.is_number else expression


@cache
def _evaluate(expression: sympy.Expr, values: tuple[tuple[str, int], ...]) -> int:
    known = dict(values)
    return int(expression.subs({s: known[str(s)] for s in expression.free_symbols}))


def evaluate(shape: Sequence[Size], values: Mapping[str, int]) -> tuple[int, ...]:
    """Return ``shape`` with every symbol replaced by its value."""
    if all(type(size) is int for size in shape):
        return tuple(shape)  # type: ignore[arg-type]
    known = tuple(sorted(values.items()))
    return tuple(size if isinstance(size, int) else _evaluate(size, known) for size in shape)


def stand_ins(symbols: Sequence[str]) -> dict[str, int]:
    """Return a distinct large prime for each symbol."""
    primes = list(_PRIMES)
    while len(primes) < len(symbols):
        primes.append(int(sympy.nextprime(primes[-1])))
    return dict(zip(symbols, primes, strict=False))


def is_static(size: Size) -> bool:
    """Whether ``size`` is known at trace time."""
    return isinstance(size, int)


def numel(shape: Sequence[int]) -> int:
    """Return the number of elements of a concrete shape."""
    return prod(shape)
