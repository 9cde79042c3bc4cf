"""What capture hands on: a flat graph of operator calls, whichever way it was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import fx
from torch.fx.graph import _PyTreeInfo

from swdc.errors import TraceError

EXPORT = "export"
RECORD = "record"

_CASTS = ("aten.to.dtype", "aten.to.dtype_layout", "aten.to.other", "aten._to_copy.default", "aten.type_as.default")


@dataclass(frozen=True)
class Captured:
    """A captured model.

    ``tensors`` names, for nodes that stand for a tensor of the model (placeholders and ``get_attr`` alike), that
    tensor; those that the model does not own are in ``constants``. The remaining placeholders are the inputs, one for
    each leaf of the arguments, and the output node holds the leaves of the result. ``by`` is ``"export"`` or
    ``"record"``.
    """

    graph: fx.Graph
    tensors: Mapping[str, str]
    constants: Mapping[str, torch.Tensor]
    signature: _PyTreeInfo
    by: str
    notes: tuple[str, ...] = field(default=())


def check_autocast(nodes: Iterable[fx.Node], device: str) -> None:
    """Raise ``TraceError`` where autocast changes the dtype of an operator, which no node of a graph would show."""
    for node in nodes:
        if node.op != "call_function" or str(node.target) in _CASTS:
            continue
        values = [n.meta.get("val") for n in (*node.all_input_nodes, node)]
        if len({v.dtype for v in values if _floats(v, device)}) > 1:
            raise TraceError(
                f"expected a model that computes in the dtype of its weights, but autocast changes that of "
                f"{node.target} (node {node.name}); switch it off in the model's forward: "
                f"torch.autocast({device!r}, enabled=False)"
            )


def _floats(value: Any, device: str) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.device.type in (device, "meta")
