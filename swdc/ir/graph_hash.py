"""The hash of a program, which ties plans and saved folders to the graph that they were made for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from swdc.ir.distributed import plain_name
from swdc.ir.graph import SHAPE
from swdc.ir.value_checks import with_what_they_need

_DEVICE = re.compile(r"device\(type='\w+'(, index=\d+)?\)")


def fingerprint(
    graph: fx.Graph, leaves: Mapping[str, nn.Module], tensors: Mapping[str, torch.Tensor], choices: str
) -> str:
    """Return a SHA-256 of a graph, its leaf modules, all shapes and the ``choices`` of ``attention`` and ``policy``.

    The hash depends neither on the values of tensors nor on their types and devices, nor on what code read from them.
    """
    nodes, values = graph.nodes, with_what_they_need(graph)
    lines = [
        f"{n.op} {n.name} {_named(n.target)} {n.args} {n.kwargs} {n.meta.get(SHAPE)}" for n in nodes if n not in values
    ]
    lines += [f"{path} {plain_name(module)}" for path, module in leaves.items()]
    lines.append(choices)
    lines += [f"{name} {tuple(t.shape)}" for name, t in sorted(tensors.items())]
    return hashlib.sha256(_DEVICE.sub("device", "\n".join(lines)).encode()).hexdigest()


def _named(target: Any) -> str:
    """Return the name of a node's target; for a Python function, its name without its address."""
    return str(target) if isinstance(target, str | torch._ops.OpOverload) else str(getattr(target, "__name__", target))
