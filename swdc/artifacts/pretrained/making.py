"""A model of the same class from another configuration, with given tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def made_with(model: Any, config: Any, values: Mapping[str, torch.Tensor]) -> Any:
    """Return a model of the class of another, made from a configuration, with copies of tensors, in their types.

    ``values`` are the tensors that such a model saves, by name.
    """
    made = type(model)(config).train(model.training)
    for name, parameter in made.named_parameters():
        parameter.data = values[name].detach().clone()
    for name, buffer in made.named_buffers():
        if name in values:
            buffer.data = values[name].detach().clone()
    made.tie_weights()
    return made
