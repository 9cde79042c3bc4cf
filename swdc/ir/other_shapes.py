"""Shapes of inputs at which to try a program: with other sizes than those of the example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swdc.ir.conditions import broken
from swdc.ir.graph import SHAPE
from swdc.ir.other_sizes import other_sizes
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate


def other_shapes(program: Program, batch: int | None) -> tuple[Any, ...] | None:
    """Return shapes of the inputs with another batch and other sizes for which the program stands, if there are any."""
    facts = program.facts
    if not facts.symbols.keys() - {facts.batch} or facts.example_only:
        return None
    symbols = {**facts.symbols} if facts.batch is None or batch is None else {**facts.symbols, facts.batch: batch}
    sizes = other_sizes(symbols, facts.conditions, facts.batch)
    if broken(facts.conditions, sizes) is not None:
        return None
    return shapes_at(program, sizes)


def shapes_at(program: Program, sizes: Mapping[str, int]) -> tuple[Any, ...]:
    """Return the shapes of the inputs at given sizes of the symbols."""
    return tuple(evaluate(node.meta.get(SHAPE) or (), sizes) for node in program.graph.find_nodes(op="placeholder"))
