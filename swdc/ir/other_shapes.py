"""Shapes of inputs at which to try a program: with other sizes than those of the example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swdc.ir.conditions import broken
from swdc.ir.graph import SHAPE
from swdc.ir.other_sizes import cheaper_sizes, other_sizes
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate


def other_shapes(program: Program, batch: int | None) -> tuple[Any, ...] | None:
    """Return shapes of the inputs with another batch and other sizes for which the program stands, if there are any.

    If there is a batch, they are about a quarter of the example's and differ from each other where that is legal, so
    that a run is cheap and tells height from width. Else integers may be indices of another input, and they are halves.
    """
    facts = program.facts
    if not facts.symbols.keys() - {facts.batch} or facts.example_only:
        return None
    symbols = {**facts.symbols} if facts.batch is None or batch is None else {**facts.symbols, facts.batch: batch}
    near = other_sizes(symbols, facts.conditions, facts.batch)
    cheap = near if facts.batch is None else {**near, **cheaper_sizes(symbols, facts.conditions, facts.batch)}
    legal = (sizes for sizes in (cheap, near) if broken(facts.conditions, sizes) is None)
    sizes = next(legal, None)
    return None if sizes is None else shapes_at(program, sizes)


def shapes_at(program: Program, sizes: Mapping[str, int]) -> tuple[Any, ...]:
    """Return the shapes of the inputs at given sizes of the symbols."""
    return tuple(evaluate(node.meta.get(SHAPE) or (), sizes) for node in program.graph.find_nodes(op="placeholder"))
