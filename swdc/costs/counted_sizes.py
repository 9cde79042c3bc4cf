"""For which sizes of its inputs a program is counted."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.errors import SwdcError
from swdc.ir.conditions import broken
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import Size, evaluate

BATCH = "batch"


def counted_sizes(program: Program, batch: int | None, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """Return a size for each symbol of a program: one sample and the sizes of the example where none is given.

    ``batch`` is the leading size that all inputs share. If they share none, it is that of the first input, and of all
    whose example has as many rows. Graphs have no batch: a program with an edge list is counted as a whole.

    Raises ``SwdcError`` for names that are no dynamic sizes, for two different batches, for sizes under one, and for
    those that break a condition of the program.
    """
    values = sizes_at(program)
    named = dict(sizes or {})
    if batch is not None and named.get(BATCH, batch) != batch:
        raise SwdcError(f"expected one batch, got batch={batch} and sizes={named}; give one of them")
    named |= {} if batch is None else {BATCH: batch}
    for name, size in named.items():
        if size < 1:
            raise SwdcError(f"expected a {name} of at least 1, got {size}; give the size to count for")
    if BATCH in named and BATCH not in values:
        size = named.pop(BATCH)
        values |= dict.fromkeys(_leading(program), size)
    unknown = sorted(named.keys() - values.keys())
    if unknown:
        raise SwdcError(f"expected sizes by the names of those that are dynamic, {_names(values)}, got {unknown}")
    values |= named
    conditions = program.facts.conditions
    if _exist(program, values):
        conditions = tuple(condition for condition in conditions if condition.symbols & named.keys() - {BATCH})
    refused = broken(conditions, values)
    if refused is not None:
        raise SwdcError(
            f"expected sizes for which the program stands, {refused}, got {named}; trace the model at these"
        )
    return values


def sizes_at(program: Program, batch: int = 1) -> dict[str, int]:
    """Return a size for each symbol of a program at a batch, or at the next one at which all of its sizes exist.

    Counts grow with the batch, so that they are per sample even where the program does not stand for a single one. But
    where its code divides by ``batch // 2``, say, there is nothing to count at a batch of one.
    """
    facts = program.facts
    values = facts.sizes(batch)
    return values if _exist(program, values) else facts.sizes(facts.nearest_batch(batch))


def _exist(program: Program, values: Mapping[str, int]) -> bool:
    """Whether the sizes of all values of a program can be computed; they can where the program stands."""
    if broken(program.facts.conditions, values) is None:
        return True
    try:
        evaluate(pytree.tree_leaves([node.meta.get(SHAPE, ()) for node in program.graph.nodes]), values)
    except ZeroDivisionError:
        return False
    return True


def _names(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} (such as {size})" for name, size in values.items()) or "of which this program has none"


def _leading(program: Program) -> list[str]:
    """Return the symbols that stand for the batch; none for graphs, and for programs of fixed sizes."""
    facts = program.facts
    if facts.batch is not None:
        return [facts.batch]
    inputs = [node for node in program.graph.find_nodes(op="placeholder") if node.meta.get(SHAPE)]
    if any(map(_is_edge_list, inputs)):
        return []
    names = [str(node.meta[SHAPE][0]) for node in inputs]
    rows = facts.symbols.get(names[0]) if names else None
    return [name for name in names if rows is not None and facts.symbols.get(name) == rows]


def _is_edge_list(node: fx.Node) -> bool:
    """Whether an input holds pairs of integers: two rows, one entry for each edge."""
    shape: tuple[Size, ...] = node.meta[SHAPE]
    integers = node.meta.get(DTYPE) in (torch.int64, torch.int32)
    return integers and len(shape) == 2 and shape[0] == 2
