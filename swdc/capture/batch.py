"""The batch of example inputs: the leading size that they share, and the same inputs with another batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import Dim
from torch.utils import _pytree as pytree

from swdc.ir.random_inputs import fitted


def tensors_in(inputs: Any) -> list[torch.Tensor]:
    """Return the tensors of nested inputs, in order."""
    return [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]


def shared_batch(inputs: Any) -> int | None:
    """Return the leading size that all tensors with dimensions share, ``None`` if they share none."""
    sizes = {t.shape[0] for t in tensors_in(inputs) if t.dim()}
    return sizes.pop() if len(sizes) == 1 else None


def with_batch(inputs: Any, batch: int) -> Any:
    """Return nested inputs with another batch size: their rows are repeated, or some are left out."""

    def rows(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() == 0 or value.shape[0] in (0, batch):
            return value
        return value[torch.arange(batch, device=value.device) % value.shape[0]]

    return pytree.tree_map(rows, inputs)


def with_shapes(inputs: Any, shapes: Sequence[Any]) -> Any:
    """Return nested inputs with tensors of other shapes, one for each leaf: indices are repeated, or left out."""
    leaves, structure = pytree.tree_flatten(inputs)
    changed = (fitted(x, shape) if isinstance(x, torch.Tensor) else x for x, shape in zip(leaves, shapes, strict=True))
    return pytree.tree_unflatten(list(changed), structure)


def at_least_two(inputs: Any) -> Any:
    """Return nested inputs with a batch of at least two, because a size of one cannot be dynamic."""
    return with_batch(inputs, 2) if shared_batch(inputs) == 1 else inputs


def on_meta(inputs: Any) -> Any:
    """Return nested inputs with every tensor replaced by one on the meta device."""
    return pytree.tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, torch.Tensor) else leaf, inputs)


def dynamic_dims(inputs: Any) -> Any:
    """Return which dimensions of nested inputs may change.

    In a tensor whose leading size is that of the first tensor, the leading dimension may change. In any other tensor
    (an edge list beside node features), every dimension may change.
    """
    first = next((t.shape[0] for t in tensors_in(inputs) if t.dim()), None)

    def dims(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            return None
        return {0: Dim.AUTO} if value.shape[0] == first else dict.fromkeys(range(value.dim()), Dim.AUTO)

    return pytree.tree_map(dims, inputs)
