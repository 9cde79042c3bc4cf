"""What nodes that compute with sizes stand for: expressions over the symbols of a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import sympy
from torch import fx
from torch.utils._sympy.functions import FloorDiv, PythonMod

from swdc.ir.graph import SHAPE
from swdc.ir.sizes import Size
from swdc.ops.creation import asked_size, computes_sizes


class Product(NamedTuple):
    """A number times the sizes of one or two dimensions of named values."""

    dims: tuple[tuple[str, int], ...]
    factor: int


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.add: operator.add, operator.sub: operator.sub, operator.mul: operator.mul, operator.neg: operator.neg,
    operator.pow: operator.pow, operator.floordiv: FloorDiv, operator.mod: PythonMod,
}  # fmt: skip


def expression_of(node: fx.Node, known: MutableMapping[fx.Node, Size | None]) -> Size | None:
    """Return the size that a node computes; ``None`` if it computes none, or from something else than sizes.

    ``known`` keeps what was found, because sizes are computed from one another.
    """
    if node not in known:
        known[node] = _expression(node, known) if computes_sizes(node) else None
    return known[node]


def _expression(node: fx.Node, known: MutableMapping[fx.Node, Size | None]) -> Size | None:
    asked = asked_size(node)
    if asked is not None:
        size: Size = asked[0].meta[SHAPE][asked[1]]
        return size
    parts = [expression_of(each, known) if isinstance(each, fx.Node) else each for each in node.args]
    if node.target not in _FUNCTIONS or not all(isinstance(part, int | sympy.Expr) for part in parts):
        return None
    result: Size = _FUNCTIONS[node.target](*map(sympy.sympify, parts))
    return result


def same_size(one: Size, other: Size) -> bool:
    """Whether two sizes are equal whatever the values of their symbols."""
    if one == other:
        return True
    if isinstance(one, int) or isinstance(other, int) or one.free_symbols != other.free_symbols:
        return False
    return bool(sympy.expand(one - other) == 0)


def product_of_dims(wanted: Size, shapes: Mapping[str, Sequence[Any]]) -> Product | None:
    """Return the dimension of named shapes that has a size, its multiple, or two whose product it is, if there are."""
    sizes = [(name, dim, size) for name, shape in shapes.items() for dim, size in enumerate(shape)]
    sizes = [each for each in sizes if isinstance(each[2], int | sympy.Expr)]
    for name, dim, size in sizes:
        if same_size(size, wanted):
            return Product(((name, dim),), 1)
    symbolic = {size: (name, dim) for name, dim, size in sizes if isinstance(size, sympy.Expr)}
    for size, place in symbolic.items():
        factor = _factor(wanted, size)
        if factor > 1:
            return Product((place,), factor)
    for one, other in combinations_with_replacement(symbolic, 2):
        if same_size(one * other, wanted):
            return Product((symbolic[one], symbolic[other]), 1)
    return None


def in_steps(size: Any, steps: Mapping[str, int]) -> Any:
    """Return a size in terms of the parts of which its symbols are multiples: ``h // 2 * 2`` is ``h`` for even ``h``.

    ``steps`` are the numbers by name of which the symbols are multiples. What is no size is returned as it is.
    """
    if not isinstance(size, sympy.Expr) or not steps:
        return size
    parts = {s: steps[str(s)] * sympy.Symbol(f"{s} / {steps[str(s)]}", integer=True, positive=True)
             for s in size.free_symbols if str(s) in steps}  # fmt: skip
    return size.subs(parts)


def _factor(wanted: Size, size: sympy.Expr) -> int:
    """Return the number that makes one size of another; zero if there is none."""
    if isinstance(wanted, int) or wanted.free_symbols != size.free_symbols:
        return 0
    factor = sympy.cancel(sympy.expand(wanted) / sympy.expand(size))
    return int(factor) if factor.is_Integer and same_size(size * factor, wanted) else 0
