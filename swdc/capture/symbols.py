"""The symbols in the shapes of a graph, and their values in the example inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.capture.data_dependent_sizes import UNSEEN
from swdc.ir.graph import SHAPE


def symbols_of(graph: fx.Graph, example: Any) -> dict[str, int]:
    """Return the value of every symbol in the example; ``UNSEEN`` for a symbol that no input shows."""
    found: dict[str, int] = {}
    for node, value in zip(graph.find_nodes(op="placeholder"), pytree.tree_leaves(example), strict=True):
        if not isinstance(value, torch.Tensor):
            continue
        for size, actual in zip(node.meta[SHAPE], value.shape, strict=True):
            if getattr(size, "is_symbol", False):
                found.setdefault(str(size), int(actual))
    for node in graph.nodes:
        for size in _flat_sizes(node.meta.get(SHAPE)):
            for symbol in () if isinstance(size, int) else size.free_symbols:
                found.setdefault(str(symbol), UNSEEN)
    return found


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
