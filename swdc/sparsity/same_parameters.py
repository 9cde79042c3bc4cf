"""A check that parameters are still the same objects, in the modules of the model and in the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.errors import PlanError


class Ownership:
    """Remembers the object of every parameter, and every module on the path to it."""

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        edges: dict[tuple[int, str], tuple[dict[str, Any], str, Any, str]] = {}
        for name in parameters:
            module = model
            *path, last = name.split(".")
            for key in path:
                edges.setdefault((id(module), key), (module._modules, key, module._modules[key], name))
                module = module.get_submodule(key)
            edges[id(module), last] = (module._parameters, last, module._parameters[last], name)
        self._edges = list(edges.values())

    def check(self, optimizer: Optimizer | None = None) -> None:
        """Raise ``PlanError`` if a parameter has been replaced by another, or is missing in the optimizer."""
        for holder, key, held, name in self._edges:
            if holder.get(key) is not held:
                raise PlanError(
                    f"expected the parameter {name} that was there when the method was made, got another in its place; "
                    f"make the method after parameters or modules are swapped, or load values into the old ones "
                    f"(load_state_dict without assign=True)"
                )
        if optimizer is None:
            return
        rates = rates_of(optimizer)
        missing = [name for name, p in self.parameters.items() if id(p) not in rates]
        if missing:
            raise PlanError(
                f"expected an optimizer that holds every parameter that can be targeted, but it lacks {len(missing)}, "
                f"such as {missing[0]}; give it the parameters of this model, or ignore the missing ones"
            )


def rates_of(optimizer: Optimizer) -> dict[int, float | torch.Tensor]:
    """Return the current learning rate of each parameter of an optimizer, by the id of the parameter."""
    return {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
