"""Parameters from which code computes the weight of a layer, such as the factors of a low-rank update."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import fx

from swdc.ops.gains import kind_of

_LAYERS = frozenset(
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution bilinear".split()
)


def makers_of_weights(graph: fx.Graph, names: Collection[str]) -> set[str]:
    """Return the named parameters that are, with others, the parts of a weight: no input has a part in it.

    The weight is the second argument of a linear layer or a convolution that reads an input.
    """
    made: dict[fx.Node, frozenset[str]] = {}
    fed: set[fx.Node] = set()
    found: set[str] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if node.op in ("placeholder", "call_module") or not fed.isdisjoint(inputs):
            fed.add(node)
            weight: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
            parts = made.get(weight, frozenset()) if isinstance(weight, fx.Node) else frozenset[str]()
            if kind_of(node) in _LAYERS and len(parts) > 1:
                found |= parts
        elif node.op == "get_attr":
            made[node] = frozenset({str(node.target)}) & frozenset(names)
        else:
            made[node] = frozenset[str]().union(*(made.get(given, ()) for given in inputs))
    return found
