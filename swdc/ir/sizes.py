"""Sizes of traced dimensions: an integer, or a sympy expression over named symbols (the batch, a number of nodes)."""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TypeAlias

import sympy
from torch.utils._sympy import functions

Size: TypeAlias = int | sympy.Expr
Shape: TypeAlias = tuple[Size, ...]

# Distinct primes beyond any width in use. With symbols replaced by them, products of sizes are equal only if the
# symbolic products are equal, so that views can be analysed with integers.
_PRIMES = (1000003, 1000033, 1000037, 1000039, 1000081, 1000099, 1000117, 1000121, 1000133, 1000151)

# The operators and functions that ``str`` writes for expressions of torch.export.
_ARITHMETIC: dict[type[ast.operator], Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.FloorDiv: functions.FloorDiv,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., sympy.Expr]] = {
    "Mod": functions.Mod, "PythonMod": functions.PythonMod, "Max": functions.Max, "Min": functions.Min,
    "ModularIndexing": functions.ModularIndexing, "floor": sympy.floor, "ceiling": sympy.ceiling,
}  # fmt: skip


def parse(text: str | int) -> Size:
    """Return the size written by ``str(size)``: an integer, or an expression over non-negative integers.

    The text is parsed, never executed. Raises ``ValueError`` if it is not such an expression.
    """
    return text if isinstance(text, int) else simplify(_expression(ast.parse(text, mode="eval").body))


def _expression(node: ast.expr) -> sympy.Expr:
    match node:
        case ast.Constant(value=int(value)):
            return sympy.Integer(value)
        case ast.Name(id=name):
            return sympy.Symbol(name, integer=True, nonnegative=True)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_expression(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_expression(left), _expression(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(_expression, args))
    raise ValueError(f"expected an expression over sizes, got {ast.unparse(node)!r}; write str(size)")


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


def stand_ins(symbols: Sequence[str]) -> dict[str, int]:
    """Return a distinct large prime for each symbol."""
    primes = list(_PRIMES)
    while len(primes) < len(symbols):
        primes.append(int(sympy.nextprime(primes[-1])))
    return dict(zip(symbols, primes, strict=False))
