"""The masked network of a pruning by Torch-Pruning: what it removes as a writer, set to zero in a copy."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from swdc.ir.module_tensors import tensors_of


class Mirror:
    """Follows a pruning, group by group, on a copy of the network whose parameters hold their own positions.

    Indices of a group count in tensors that earlier groups have cut. In the copy, a parameter's entries say where
    they stood in the network, so what a group takes away is seen by what is missing.
    """

    def __init__(self, model: nn.Module) -> None:
        self._masked = copy.deepcopy(model)
        self._positions = copy.deepcopy(model).double()
        self._parameters = dict(self._masked.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for parameter in self._positions.parameters():
                parameter.copy_(torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape))

    def follow(self, group: Any, graph: Any) -> None:
        """Do what a group is about to do to the network; graph is the ``DependencyGraph`` it belongs to."""
        for dependency, indices in group:
            target = dependency.target.module
            if isinstance(target, nn.Parameter):
                self._cut_parameter(graph._param_to_name[target], dependency, indices)
            elif target in graph._module2name:  # else an operator without parameters
                self._cut_module(graph._module2name[target], dependency, indices)

    def masked(self) -> nn.Module:
        """Return the network with all that was removed as a writer set to zero."""
        return self._masked

    def _cut_module(self, path: str, dependency: Any, indices: Any) -> None:
        module = self._positions.get_submodule(path)
        before = {name: tensor.detach() for name, tensor in tensors_of(module).items()}
        dependency.handler.__self__.pruning_dim = dependency.target.pruning_dim
        dependency.handler(module, _plain(indices))
        if dependency.handler.__name__ == "prune_out_channels":
            after = tensors_of(module)
            for name in before:
                self._zero(f"{path}.{name}" if path else name, before[name], after.get(name))

    def _cut_parameter(self, name: str, dependency: Any, indices: Any) -> None:
        path, _, attribute = name.rpartition(".")
        owner = self._positions.get_submodule(path)
        before = getattr(owner, attribute)
        dependency.handler.__self__.pruning_dim = dependency.target.pruning_dim
        after = dependency.handler(before, _plain(indices))
        setattr(owner, attribute, after)
        self._zero(name, before.detach(), after)

    def _zero(self, name: str, before: Tensor, after: Tensor | None) -> None:
        """Set to zero, in the masked network, the positions that are in ``before`` and no more in ``after``."""
        if name not in self._parameters or after is None or before.shape == after.shape:
            return
        gone = torch.zeros(self._parameters[name].numel(), dtype=torch.bool)
        gone[before.flatten().long()] = True
        gone[after.detach().flatten().long()] = False
        with torch.no_grad():
            self._parameters[name].view(-1)[gone] = 0.0


def _plain(indices: Any) -> list[int]:
    """Return indices as numbers; the peer's may carry those of the layer that they come from."""
    return [int(getattr(index, "idx", index)) for index in indices]
