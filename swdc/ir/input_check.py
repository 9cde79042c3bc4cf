"""A check of the inputs of a program against the shapes that it was traced with."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.errors import InputError
from swdc.ir.graph import SHAPE, describe
from swdc.ir.sizes import Shape


def check_inputs(graph: fx.Graph, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> None:
    """Raise ``InputError`` from ``error`` if the inputs of a call that failed do not look like the example inputs."""
    expected = graph.find_nodes(op="placeholder")
    given = pytree.tree_leaves((args, kwargs))
    if len(given) != len(expected):
        wanted = ", ".join(f"{n.name}: {describe(n.meta.get(SHAPE))}" for n in expected)
        raise InputError(
            f"expected {len(expected)} inputs ({wanted}), got {len(given)}; call the program with the arguments "
            f"of the traced model"
        ) from error
    for node, value in zip(expected, given, strict=True):
        shape = node.meta.get(SHAPE)
        if shape is not None and isinstance(value, torch.Tensor) and not _fits(value, shape):
            raise InputError(
                f"expected {node.name} of shape {describe(shape)}, got {tuple(value.shape)}; give inputs of that "
                f"shape, or trace the model again with these"
            ) from error


def _fits(value: torch.Tensor, shape: Shape) -> bool:
    """Whether a tensor has the rank and the fixed sizes of a traced shape."""
    return len(shape) == value.dim() and all(
        not isinstance(size, int) or size == actual for size, actual in zip(shape, value.shape, strict=True)
    )
