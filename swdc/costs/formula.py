"""The operations of a program as an expression over the names of its dynamic sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import sympy

from swdc.errors import SwdcError
from swdc.ir.call import Ref, Value
from swdc.ir.conditions import broken
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ops import calls, shapes_of
from swdc.ops.call_cost import ShapeOf

_STEPS = (1, 2)
"""By how many times its own step to move each size for a trial."""


def operations_at(program: Program, convention: str, sizes: Mapping[str, int]) -> int:
    """Return the operations of a program by a convention, at given sizes of its symbols."""
    return sum(_operations(program, convention, shapes_of(program, sizes)))


def formula_of(program: Program, convention: str, sizes: Mapping[str, int]) -> sympy.Expr:
    """Return the operations as an expanded expression over the symbols of a program.

    The shapes of its values are expressions already, so that nothing is fitted. The symbols are plain ones, so that
    ``formula.subs({"batch": 4})`` finds them. Raises ``SwdcError`` if the result
    does not give what is counted at ``sizes`` and at others.
    """
    tensors = program.tensors

    def shape_of(value: Value) -> tuple[sympy.Expr, ...]:
        shape = tensors[value].shape if isinstance(value, Ref) else value.meta[SHAPE]
        return tuple(map(sympy.sympify, shape))

    found = sympy.expand(sympy.Add(*_operations(program, convention, shape_of)))
    found = found.xreplace({symbol: sympy.Symbol(str(symbol)) for symbol in found.free_symbols})
    for other in _tried(program, sizes):
        said, counted = int(found.subs(_values(found, other))), operations_at(program, convention, other)
        if said != counted:
            text = ", ".join(f"{name} {size}" for name, size in other.items()) or "the example"
            raise SwdcError(
                f"expected an expression that gives {counted} for {text}, got {found}, which gives {said}; count at "
                f"these sizes instead: swdc.count(program, sizes=...)"
            )
    return found


def _operations(program: Program, convention: str, shape_of: ShapeOf) -> Iterator[int]:
    for operator, call in calls(program).values():
        for cost in operator.cost(call, shape_of):
            yield getattr(cost, convention) * prod(shape_of(value)[dim] for value, dim in cost.dims)


def _values(found: sympy.Expr, sizes: Mapping[str, int]) -> dict[sympy.Symbol, int]:
    return {symbol: sizes[str(symbol)] for symbol in found.free_symbols}


def _tried(program: Program, sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield the sizes themselves, and others that move all of them, each by another step.

    Where the program does not stand for such sizes, the batch alone moves.
    """
    yield dict(sizes)
    for times in _STEPS:
        moved = {name: size + times * (1 + place) for place, (name, size) in enumerate(sizes.items())}
        if broken(program.facts.conditions, moved) is not None:
            moved = {name: size + times * (name == program.facts.batch) for name, size in sizes.items()}
        yield moved
