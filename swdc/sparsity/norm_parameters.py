"""Which parameters belong to norms: gains and shifts, also those of norms that are not torch's, and layer scales.

Norms of ``torch.nn`` are known. Other gains are found by what code does with them: they only multiply values, element
by element (``swdc.ops.gains``). In a program the graph tells. In a plain module, the forward of each module that holds
parameters of its own is traced by ``torch.fx``, with the modules in it as unknown functions. What cannot be traced,
because its path depends on values, holds no gains: its parameters are weights, as are all others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import ParameterProxy

from swdc.ops.base import NO_LEAF, leaf_like
from swdc.ops.gains import gains_and_shifts


def ids_in_norms(model: nn.Module) -> set[int]:
    """Return the ids of the parameters of all norms, and of those that only scale or shift as gains and shifts do."""
    found: set[int] = set()
    for module in model.modules():
        if leaf_like(module).is_norm:
            found |= {id(p) for p in module.parameters(recurse=False)}
    for _, module, graph in graphs_of(model):
        named = dict(module.named_parameters(remove_duplicate=False))
        shapes = {name: parameter.shape for name, parameter in named.items()}
        found |= {id(named[name]) for name in gains_and_shifts(graph, shapes)}
    return found


def graphs_of(model: nn.Module) -> Iterator[tuple[str, nn.Module, fx.Graph]]:
    """Yield the path, the module and the graph of each module with a graph, or with parameters that it reads itself."""
    for path, module in model.named_modules():
        graph = module.graph if isinstance(module, fx.GraphModule) else _own_graph(module)
        if graph is not None:
            yield path, module, graph


class _Parameter(ParameterProxy):
    """A parameter of which the numbers are unknown, and the shape, the type and the device are known."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameter's numbers."""
        return self.param.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameter is; that of an empty copy is ``meta``."""
        return self.param.device


class _Tracer(fx.Tracer):
    """Enters no module, so that nothing but a module's own forward runs."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return true: calls of modules stay calls."""
        return True

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return what stands for an attribute: a node for a parameter, else the attribute itself."""
        names = [name for name, parameter in self.root.named_parameters() if parameter is attr_val]
        if not names:
            return attr_val
        if names[0] not in parameter_proxy_cache:
            node = self.create_proxy("get_attr", names[0], (), {}).node
            parameter_proxy_cache[names[0]] = _Parameter(self, node, names[0], attr_val)
        return parameter_proxy_cache[names[0]]


def _own_graph(module: nn.Module) -> fx.Graph | None:
    """Return the graph of a module's own forward; ``None`` if it has no parameters of its own, or cannot be traced."""
    own = [p for p in module.parameters(recurse=False) if p.is_floating_point()]
    if not own or _runs_as_torch_does(module) or isinstance(module, torch.jit.ScriptModule):
        return None
    try:
        with torch.random.fork_rng(devices=[]):
            return _Tracer().trace(_twin(module))
    except Exception:  # code of the caller's raises errors of many kinds when its values are unknown
        return None


def _twin(module: nn.Module) -> nn.Module:
    """Return a module without values that runs the same code; what that writes does not reach the module."""
    children = {id(child): child for child in module.children()}
    tensors: dict[int, Any] = {id(t): _empty(t) for t in (*module.parameters(False), *module.buffers(False))}
    twin = object.__new__(type(module))
    twin.__dict__.update(copy.deepcopy(vars(module), {**children, **tensors}))
    return twin


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    made = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def _runs_as_torch_does(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers, or of a derived class that computes the same way."""
    leaf = leaf_like(module)
    return leaf is not NO_LEAF and type(module).forward in {kind.forward for kind in leaf.bases or leaf.modules}
