"""The values that a part of a program reads, and that are computed outside of it from sizes and constants alone."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import fx

from swdc.ops.creation import computes_sizes
from swdc.ops.in_place import acts
from swdc.ops.items import is_item


def outside_constants(
    graph: fx.Graph, inside: Callable[[str], bool], given: Collection[str], held: Collection[str]
) -> set[fx.Node]:
    """Return the nodes outside of a part that it can compute by itself, such as a mask without a masked position.

    ``given`` are the names of the values that the part is given; ``held`` those of the tensors that the user's model
    holds elsewhere. A value that depends on an input, on a tensor of the model or on chance is not such a value.
    """
    constant: dict[fx.Node, bool] = {}
    for node in graph.nodes:
        parts = [each for each in node.all_input_nodes if not computes_sizes(each)]
        own = node.op == "get_attr" and node.target not in held
        constant[node] = own or (_always_alike(node) and all(constant[each] for each in parts))
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if inside(node.name)]
    while waiting:
        for each in waiting.pop().all_input_nodes:
            if constant[each] and each not in found and each.name not in given and not inside(each.name):
                found.add(each)
                waiting.append(each)
    return found


def _always_alike(node: fx.Node) -> bool:
    """Whether a node computes the same from the same values, and changes none of them."""
    if node.op != "call_function" or computes_sizes(node) or acts(node):
        return False
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return is_item(node)
    return target.namespace == "aten" and torch.Tag.nondeterministic_seeded not in target.tags
