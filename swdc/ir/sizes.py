"""Sizes of traced dimensions: an integer, or a sympy expression over named symbols (the batch, a number of nodes)."""

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from math import prod
from typing import Any, TypeAlias

import sympy
import sympy.tensor.tensor  # each trace needs it: sympy imports it in its first sum
from torch.utils._sympy import functions

Size: TypeAlias = int | sympy.Expr
Shape: TypeAlias = tuple[Size, ...]

# With symbols replaced by distinct primes, products of sizes are equal only if the symbolic products are equal, so that
# views can be analysed with integers. Where sizes are multiplied often, primes are smaller: torch counts the elements.
_FIRST_PRIMES = (1000003, 30011, 5003, 1201, 397, 101)
_MOST_ELEMENTS = 2**60
_MOST_TRIED = 32

# The operators and functions that ``str`` writes for expressions of torch.export.
_ARITHMETIC: dict[type[ast.operator], Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.FloorDiv: functions.FloorDiv,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., sympy.Expr]] = {
    "Mod": functions.Mod, "PythonMod": functions.PythonMod, "Max": functions.Max, "Min": functions.Min,
    "ModularIndexing": functions.ModularIndexing, "floor": sympy.floor, "ceiling": sympy.ceiling,
}  # fmt: skip
_LONGEST, _MOST_PARTS, _LARGEST, _HIGHEST_DEGREE = 4000, 400, 2**63, 12
"""Bounds of what is read: characters, parts of an expression, numbers, and the degree as a polynomial."""


def parse(text: str | int) -> Size:
    """Return the size written by ``str(size)``: an integer, or an expression over non-negative integers.

    The text is parsed, never executed, and only so far as it is short and its numbers are small. Raises ``ValueError``
    if it is not such an expression.
    """
    if isinstance(text, bool) or not isinstance(text, int | str):
        raise ValueError(f"expected a size or an expression over sizes, got {text!r}; write str(size)")
    return _bounded(text) if isinstance(text, int) else _read(text)


@cache
def _read(text: str) -> Size:
    try:
        body = ast.parse(text[: _LONGEST + 1], mode="eval").body
        if len(text) > _LONGEST or sum(1 for _ in ast.walk(body)) > _MOST_PARTS or _degree(body) > _HIGHEST_DEGREE:
            raise ValueError("it is too long")
        return simplify(_whole(_bounded(_expression(body))))
    except Exception as error:  # of the parser, of sympy, and of the functions of torch: of many kinds
        raise ValueError(f"expected an expression over sizes, got {text[:60]!r}: {error}; write str(size)") from error


def _whole(expression: sympy.Expr) -> sympy.Expr:
    """Return an expression; raise ``ValueError`` for a fraction, and for one that divides by zero."""
    if expression.has(sympy.zoo, sympy.nan, sympy.oo) or (expression.is_number and not expression.is_integer):
        raise ValueError("it is no whole number")
    return expression


def _degree(node: ast.AST) -> int:
    """Return a bound for the degree of an expression as a polynomial, because sympy takes long over high powers."""
    match node:
        case ast.Name():
            return 1
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(exponent))):
            return _degree(left) * min(max(exponent, 1), _HIGHEST_DEGREE + 1)
        case ast.BinOp(op=ast.Pow()):
            raise ValueError("an exponent has to be a number")
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return max(_degree(left), _degree(right))
        case ast.Call(args=args):
            return sum(map(_degree, args))
    return sum(map(_degree, ast.iter_child_nodes(node)))


def _expression(node: ast.expr) -> sympy.Expr:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return sympy.Integer(_bounded(value))
        case ast.Name(id=name):
            return sympy.Symbol(name, integer=True, nonnegative=True)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_expression(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_bounded(_expression(left)), _bounded(_expression(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(_expression, args))
    raise ValueError(f"{type(node).__name__} has no place in it")


def _bounded(value: Any) -> Any:
    """Return a size; raise ``ValueError`` for a number that no tensor's size reaches, and for what is no number."""
    if getattr(value, "is_number", True) and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number beyond 2**63")
    return value


def simplify(expression: sympy.Expr) -> Size:
    """Return an ``int`` for a constant expression, and any other expression unchanged."""
    return int(expression) if expression.is_number else expression


@cache
def _evaluate(expression: sympy.Expr, values: tuple[tuple[str, int], ...]) -> int:
    known = dict(values)
    return int(expression.subs({s: known[str(s)] for s in expression.free_symbols}))


def evaluate(shape: Sequence[Size], values: Mapping[str, int]) -> tuple[int, ...]:
    """Return ``shape`` with every symbol replaced by its value."""
    if all(type(size) is int for size in shape):
        return tuple(shape)
    known = tuple(sorted(values.items()))
    return tuple(size if isinstance(size, int) else _evaluate(size, known) for size in shape)


def _primes_from(number: int) -> Iterator[int]:
    while True:
        number = int(sympy.nextprime(number - 1))
        yield number
        number += 1


def stand_ins(
    symbols: Sequence[str],
    shapes: Iterable[Any] = (),
    steps: Mapping[str, int] | None = None,
    fits: Callable[[str, int], bool] = lambda name, size: True,
) -> dict[str, int]:
    """Return a distinct prime for each symbol, large enough to divide no width in use, times its step if it has one.

    If there are such sizes near, they are ones that ``fits`` says a symbol can have.

    No tensor of the given ``shapes`` (nested, for calls with several results) gets more elements than torch can count.
    """
    flat = list(_flat(shapes))
    found: dict[str, int] = {}
    for start in _FIRST_PRIMES:
        prime, found = start, {}
        for name in symbols:
            step = (steps or {}).get(name, 1)
            prime = int(sympy.nextprime(prime - 1))
            near = islice(_primes_from(prime), _MOST_TRIED)
            prime = next((p for p in near if fits(name, p * step)), prime)
            found[name] = prime * step
            prime += 1
        if all(prod(evaluate(shape, found)) <= _MOST_ELEMENTS for shape in flat):
            break
    return found


def _flat(shapes: Iterable[Any]) -> Iterator[Shape]:
    """Yield the shapes in nested ones that have symbols."""
    for shape in shapes:
        if isinstance(shape, tuple | list) and any(isinstance(size, tuple | list) for size in shape):
            yield from _flat(shape)
        elif isinstance(shape, tuple | list) and any(isinstance(size, sympy.Expr) for size in shape):
            yield tuple(shape)
