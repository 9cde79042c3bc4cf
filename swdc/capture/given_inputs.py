"""Copies of example inputs that a run may overwrite."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch.utils import _pytree as pytree


def copied(inputs: Any, gradients: bool = False) -> Any:
    """Return nested inputs with a copy of each tensor, each in memory of its own.

    With ``gradients``, copies of numbers require gradients, as what a layer before the model computes would. They are
    no leaves of the graph of gradients, so that a model may overwrite them.
    """

    def copy(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if gradients and (value.is_floating_point() or value.is_complex()):
            return value.detach().requires_grad_().clone()
        return value.detach().clone()

    return pytree.tree_map(copy, inputs)


def copied_together(inputs: Any) -> Any | None:
    """Return nested inputs with copies that share memory where the tensors do; ``None`` if no two of them do."""
    leaves, structure = pytree.tree_flatten(inputs)
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, torch.Tensor)}
    if len({_memory(t) for t in tensors.values()}) == sum(isinstance(leaf, torch.Tensor) for leaf in leaves):
        return None
    copies = dict(zip(tensors, deepcopy([tensor.detach() for tensor in tensors.values()]), strict=True))
    return pytree.tree_unflatten([copies.get(id(leaf), leaf) for leaf in leaves], structure)


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)
