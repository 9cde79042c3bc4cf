"""In-place operators: what they overwrite, and what computes the same without."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_RETURN_THEIR_INPUT = ("aten.dropout.default", "aten.feature_dropout.default")


def without_side_effects(target: Any) -> Any:
    """Return the overload that computes what an in-place one does, ``None`` if there is none."""
    name = target._schema.name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    wanted = [(a.name, str(a.type)) for a in target._schema.arguments]
    for overload in packet.overloads() if packet is not None else ():
        candidate = getattr(packet, overload)
        found = [(a.name, str(a.type)) for a in candidate._schema.arguments]
        if found[1:] == wanted[1:] and found[0][1] == "Tensor":
            return candidate
    return None


def overwrites(node: fx.Node) -> bool:
    """Whether a node changes one of its inputs."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def is_view(node: fx.Node) -> bool:
    """Whether the result of a node shares memory with its input without being the input overwritten."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.op == "call_function"
    if overwrites(node):
        return False
    if str(node.target) in _RETURN_THEIR_INPUT:
        return True
    return any(r.alias_info is not None for r in node.target._schema.returns)
