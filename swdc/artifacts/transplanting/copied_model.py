"""Copies of models: of all that they hold, except for what cannot be copied and holds no tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from swdc.artifacts.transplanting.places import REGISTERED, places, tensors_in
from swdc.errors import TransplantError

Model = TypeVar("Model", bound=nn.Module)


def copied_model(model: Model) -> Model:
    """Return a copy of a model that shares no tensor with it.

    A tensor that the model has computed from its parameters (the weight of an old weight norm) is copied as it is now.
    A lock, an open file or an iterator has no copy, so it is shared. Raises ``TransplantError`` for an object that has
    no copy and holds tensors.
    """
    computed = [tensor for _, tensor in places(model) if not tensor.is_leaf]
    memo = {id(tensor): tensor.detach().clone() for tensor in computed}
    try:
        return copy.deepcopy(model, dict(memo))
    except Exception:  # attributes of the user's raise errors of many kinds; the second copy is not caught
        return copy.deepcopy(model, {**memo, **_shared(model, memo)})


def _shared(model: nn.Module, memo: Mapping[int, object]) -> dict[int, object]:
    """Return the attributes of a model's modules that have no copy, by their identity, as the copies to take."""
    registered, found = set(model.modules()), dict[int, object]()
    known = {**memo, **{id(module): module for module in registered}}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in REGISTERED or isinstance(value, nn.Module):
                continue
            try:
                copy.deepcopy(value, dict(known))
            except Exception as error:  # objects raise errors of many kinds
                if tensors_in(value, registered):
                    raise TransplantError(
                        f"expected a model that can be copied, but {path + '.' if path else ''}{name} holds tensors "
                        f"and cannot ({type(error).__name__}: {error}); keep in it what can be copied"
                    ) from error
                found[id(value)] = value
    return found
