"""What nodes that compute with sizes stand for: expressions over the symbols of a program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import sympy
from torch import fx
from torch.utils._sympy.functions import FloorDiv, PythonMod

from swdc.ir.graph import SHAPE
from swdc.ir.sizes import Size
from swdc.ops.creation import asked_size, computes_sizes

Dims = tuple[tuple[str, int], ...]
"""One or two dimensions of named values, of which the product of the sizes is meant."""

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


def product_of_dims(wanted: Size, shapes: Mapping[str, Sequence[Any]]) -> Dims | None:
    """Return the dimension of named shapes that has a size, or two whose product it is; ``None`` if there are none."""
    sizes = [(name, dim, size) for name, shape in shapes.items() for dim, size in enumerate(shape)]
    sizes = [each for each in sizes if isinstance(each[2], int | sympy.Expr)]
    for name, dim, size in sizes:
        if same_size(size, wanted):
            return ((name, dim),)
    symbolic = {size: (name, dim) for name, dim, size in sizes if isinstance(size, sympy.Expr)}
    for one, other in combinations_with_replacement(symbolic, 2):
        if same_size(one * other, wanted):
            return (symbolic[one], symbolic[other])
    return None
