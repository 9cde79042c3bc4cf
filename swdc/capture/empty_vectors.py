"""Empty vectors that a concatenation leaves out, whatever it joins: a cache begins with one.

A captured graph does without them, so that they do not become tensors of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from swdc.ops.in_place import operator_of

Like = Callable[[Any], torch.Tensor]


def without_empty_vectors(func: Any, args: Any, like: Like = lambda tensor: tensor) -> list[Any]:
    """Return the arguments of a call without the empty vectors that it leaves out.

    ``like`` gives a tensor with the shape and the type of an argument.
    """
    if not args or not isinstance(args[0], list | tuple) or not operator_of(func).joins:
        return list(args)
    return [_joined(args[0], like), *args[1:]]


def _joined(parts: Sequence[Any], like: Like) -> list[Any]:
    first = next((like(part) for part in parts if like(part).dim() != 1), None)
    if first is None:
        return list(parts)
    return [part for part in parts if not _is_empty_vector(like(part)) or like(part).dtype != first.dtype]


def _is_empty_vector(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 1 and tensor.shape[0] == 0


def drop_empty_vectors(graph: fx.Graph) -> None:
    """Leave the empty vectors out of the concatenations of a graph that was exported."""
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            node.args = tuple(without_empty_vectors(node.target, node.args, lambda part: part.meta["val"]))
