"""The symbols in the shapes of a graph, and their values in the example inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.capture.data_dependent_sizes import UNSEEN
from swdc.capture.input_symbols import BATCH, InputSymbols
from swdc.capture.size_sums import number, symbol
from swdc.ir.conditions import is_axis
from swdc.ir.graph import SHAPE


def symbols_of(graph: fx.Graph, example: Any) -> dict[str, int]:
    """Return the value of every symbol in the example; ``UNSEEN`` for a symbol that no input shows."""
    found: dict[str, int] = {}
    for node, value in zip(graph.find_nodes(op="placeholder"), pytree.tree_leaves(example), strict=True):
        if not isinstance(value, torch.Tensor):
            continue
        for size, actual in zip(node.meta[SHAPE], value.shape, strict=True):
            if _is_symbol(size):
                found.setdefault(str(size), int(actual))
    for node in graph.nodes:
        for size in _flat_sizes(node.meta.get(SHAPE)):
            for free in () if isinstance(size, int) else size.free_symbols:
                found.setdefault(str(free), UNSEEN)
    return found


def named_symbols(shapes: Sequence[Any], example: Any, batched: bool) -> tuple[str | None, dict[Any, Any]]:
    """Return the name of the batch, and what stands for symbols in the shapes of inputs: names that users know.

    Inputs that are ``batched`` have one leading size in the example. An input that the model does not relate to the
    others (or never reads) has a symbol of its own. Sizes of which one is fixed are equal by chance: there is no batch
    that all inputs share.
    """
    leading = [shape[0] for shape in shapes if shape]
    batch = leading[0] if leading and batched and all(map(_is_symbol, leading)) else None
    same = dict.fromkeys(leading, batch) if batch is not None else {}
    symbols = {str(size): same.get(size, size) for shape in shapes for size in shape or () if _is_symbol(size)}
    named = {name: name for name in symbols}
    if not all(map(is_axis, map(str, symbols.values()))):
        given = {name: BATCH if size == batch else str(size) for name, size in symbols.items()}
        made = InputSymbols([], {}, {})
        for place, shape in enumerate(shapes):
            made.shapes.append(tuple(symbol(given[str(s)]) if _is_symbol(s) else number(1) for s in shape))
            for dim, size in enumerate(shape):
                if _is_symbol(size):
                    made.places.setdefault(given[str(size)], (place, dim))
        made.example.update(dict.fromkeys(made.places, 1))
        names = made.named(pytree.tree_leaves(example), symbol)
        named = {name: names[given[name]] for name in symbols}
    elif batch is not None:
        named = {name: str(size) for name, size in symbols.items()}
    found = {size: named[str(size)] for shape in shapes for size in shape or () if _is_symbol(size)}
    replaced = {
        size: sympy.Symbol(name, integer=True, positive=True) for size, name in found.items() if str(size) != name
    }
    return None if batch is None else found[batch], replaced


def _is_symbol(size: Any) -> bool:
    return bool(getattr(size, "is_symbol", False))


def substituted(shape: Any, symbols: Mapping[Any, Any]) -> Any:
    """Return nested shapes with symbols replaced by others."""
    if isinstance(shape, tuple):
        return tuple(substituted(size, symbols) for size in shape)
    return shape if isinstance(shape, int) else shape.xreplace(symbols)


def _flat_sizes(shape: Any) -> list[Any]:
    """Return the sizes in nested shapes, in order."""
    if isinstance(shape, tuple):
        return [size for item in shape for size in _flat_sizes(item)]
    return [] if shape is None else [shape]
