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


def given_twice(inputs: Any) -> tuple[Any, Any] | None:
    """Return nested inputs with one tensor in two places, and with a copy in one; ``None`` if no two are alike."""
    leaves, structure = pytree.tree_flatten(inputs)
    tensors = [(place, leaf) for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    for number, (first, one) in enumerate(tensors):
        for second, other in tensors[number + 1 :]:
            if one is not other and (one.shape, one.dtype) == (other.shape, other.dtype):
                both = list(copied(leaves))
                apart = [both[first].clone() if place == second else leaf for place, leaf in enumerate(both)]
                both[second] = both[first]
                return pytree.tree_unflatten(both, structure), pytree.tree_unflatten(copied(apart), structure)
    return None


def turned(inputs: Any) -> Any:
    """Return nested inputs with other values of the same range: every tensor backwards, numbers a little smaller."""

    def turn(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return value
        backwards = value.detach().flip(tuple(range(value.dim())))
        return backwards * 0.75 if value.is_floating_point() or value.is_complex() else backwards

    return pytree.tree_map(turn, inputs)


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
