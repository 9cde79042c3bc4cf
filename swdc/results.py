"""Results as plain data: what a model returns in objects of its own classes, as dicts of the tensors they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

_ATOMS = (torch.Tensor, torch.nn.Module, type(None), bool, int, float, complex, str, bytes)


def plain(result: Any) -> Any:
    """Return a nested result with every object that ``torch.utils._pytree`` does not know as a dict of its tensors.

    A cache of keys and values becomes ``{"layers": [{"keys": ..., "values": ...}, ...]}``. Objects without tensors stay
    as they are.
    """
    return pytree.tree_map(lambda leaf: _opened(leaf, ()), result)


def opaque(result: Any) -> list[str]:
    """Return the names of the classes that ``plain`` replaces in a result."""
    leaves = pytree.tree_leaves(result)
    return list(dict.fromkeys(type(leaf).__name__ for leaf in leaves if _opened(leaf, ()) is not leaf))


def _opened(leaf: Any, above: tuple[int, ...]) -> Any:
    """Return the dict, list or tuple that stands for an object, or the object itself where it holds no tensor."""
    if isinstance(leaf, _ATOMS) or id(leaf) in above:
        return leaf
    inside = (*above, id(leaf))

    def opened(value: Any) -> Any:
        return pytree.tree_map(lambda part: _opened(part, inside), value)

    if isinstance(leaf, list | tuple):
        return [opened(item) for item in leaf]
    held = leaf if isinstance(leaf, Mapping) else getattr(leaf, "__dict__", {})
    found = {str(name): opened(value) for name, value in held.items()}
    tensors = {name: value for name, value in found.items() if _holds_tensors(value)}
    return tensors or leaf


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))
