"""State that a model hands from call to call, such as a cache of keys and values: programs do not return it.

A result is such a state if it is an object of a class of its own, and has the name of an argument of the model's
forward that the call left out. Were it returned, nothing that it holds could be removed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from swdc.ir.plain_results import is_opened, plain


def results_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a model, and return as plain data what its program returns."""
    return plain(without_state(model, args, kwargs, model(*args, **kwargs))[0])


def without_state(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
) -> tuple[Any, tuple[str, ...]]:
    """Return the result of a call with ``None`` in the place of states, and the names of these."""
    held = _named(result)
    states = {name: held[name] for name in _left_out(model, args, kwargs) if name in held and is_opened(held[name])}
    if not states:
        return result, ()
    ids = {id(state) for state in states.values()}
    return pytree.tree_map(lambda leaf: None if id(leaf) in ids else leaf, result), tuple(states)


def _named(result: Any) -> Mapping[str, Any]:
    if isinstance(result, Mapping):
        return result
    return result._asdict() if isinstance(result, tuple) and hasattr(result, "_asdict") else {}


def _left_out(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments of a model's forward that a call does not give."""
    try:
        signature = inspect.signature(model.forward)
        given = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the call fits no signature that Python can tell
        return []
    return [name for name in signature.parameters if given.get(name) is None]
