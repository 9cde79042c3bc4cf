"""In-place operators: what they overwrite, and their twins without side effects."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import torch
from torch import fx

from swdc.ops.base import Operator, lookup, name_of

RETURN_THEIR_INPUT = (
    "aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default",
    "aten.feature_alpha_dropout.default", "aten.type_as.default",
)  # fmt: skip
"""Operators that may return their input although their schema does not say so."""


def without_side_effects(target: Any) -> Any:
    """Return the overload that computes the same as an in-place one without overwriting, or ``None``."""
    name = target._schema.name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    wanted = [(a.name, str(a.type)) for a in target._schema.arguments]
    for overload in packet.overloads() if packet is not None else ():
        candidate = getattr(packet, overload)
        found = [(a.name, str(a.type)) for a in candidate._schema.arguments]
        if found[1:] == wanted[1:] and found[0][1] == "Tensor":
            return candidate
    return None


def operator_of(target: Any) -> Operator:
    """Return the operator of a node's target; for an in-place target, that of its twin without side effects."""
    return lookup(_functional_name(target))


@cache
def _functional_name(target: Any) -> str:
    mutable = isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable
    twin = without_side_effects(target) if mutable else None
    return name_of(target if twin is None else twin)


def overwrites(node: fx.Node) -> bool:
    """Whether a node changes one of its inputs."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def acts(node: fx.Node) -> bool:
    """Whether a node does something beside giving a result: it overwrites an input, or fails where values are false."""
    return node.op == "call_function" and (overwrites(node) or operator_of(node.target).asserts)


def depends_on_memory(node: fx.Node) -> bool:
    """Whether a node overwrites an input, depends on the memory layout of its input, or is not an operator of aten.

    How operators of other libraries use memory is not known.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return overwrites(node) or node.target.namespace != "aten" or lookup(name_of(node.target)).needs_layout


def written(graph: fx.Graph) -> set[str]:
    """Return the names of the parameters and buffers that a graph changes."""
    return {name for name in map(writes, graph.nodes) if name}


def writes(node: fx.Node) -> str:
    """Return the name of the parameter or buffer that a node changes, ``""`` if it changes none."""
    root = node
    while root.all_input_nodes and (overwrites(root) or (root is not node and is_view(root))):
        root = root.all_input_nodes[0]
    return str(root.target) if root.op == "get_attr" and root is not node else ""


class Memory:
    """Which values of a graph share memory. ``lasting`` are tensors that are read again after the graph has run."""

    def __init__(self, graph: fx.Graph, lasting: Collection[fx.Node] = ()) -> None:
        self._lasting = {*lasting, *graph.find_nodes(op="placeholder")}
        self._owner: dict[fx.Node, fx.Node] = {}
        self._sharing: dict[fx.Node, list[fx.Node]] = {}
        for node in graph.nodes:
            inputs = node.all_input_nodes if is_view(node) or overwrites(node) else []
            owner = self._owner[inputs[0]] if inputs else node
            self._owner[node] = owner
            self._sharing.setdefault(owner, []).append(node)

    def owner(self, node: fx.Node) -> fx.Node:
        """Return the node that made the memory which a value shares."""
        return self._owner[node]

    def read_later(self, node: fx.Node) -> list[fx.Node]:
        """Return the values computed before ``node`` that share the memory which it overwrites, and are read after it.

        An input of the graph, and a lasting tensor, counts as read later unless it is the overwritten value itself.
        """
        x = node.all_input_nodes[0]
        owner = self._owner[x]
        others = [other for other in self._sharing[owner] if other < node and other is not x]
        return [o for o in others if o in self._lasting or any(user > node for user in o.users)]


def is_view(node: fx.Node) -> bool:
    """Whether the result of a node shares memory with its input without being the input overwritten."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.op == "call_function"
    if overwrites(node):
        return False
    if str(node.target) in RETURN_THEIR_INPUT:
        return True
    return any(r.alias_info is not None for r in node.target._schema.returns)
