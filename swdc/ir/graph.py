"""Graphs of programs: the keys of a node's meta data, copies of graphs, and names that are not taken."""

from __future__ import annotations

import copy
from collections.abc import Container

from torch import fx

from swdc.ir.sizes import Shape

SHAPE = "shape"
"""Key of a node's meta: its Shape, or a tuple of Shapes if the operator returns several tensors."""

DTYPE = "dtype"
"""Key of a node's meta: the type of its tensor, nested as the shapes are."""

STACK_TRACE = "stack_trace"
"""Key of a node's meta, that of torch.fx: where the user's code made the call."""

SCOPE = "scope"
"""Key of a node's meta: the path of the innermost module of the user's model that it was traced in."""


def describe(shape: Shape | None) -> str:
    """Return a shape as text; symbolic sizes by name."""
    return "no tensor" if shape is None else "(" + ", ".join(str(size) for size in shape) + ")"


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """Return a copy of a graph with the same node names, meta data and calling convention."""
    new = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        mapping[node] = new.node_copy(node, lambda n: mapping[n])
        mapping[node].name = node.name
    new.set_codegen(copy.copy(graph._codegen))
    return new


def unused(base: str, taken: Container[str]) -> str:
    """Return ``base`` if it is not taken, otherwise the first of ``base_2``, ``base_3`` and so on that is not taken."""
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name
