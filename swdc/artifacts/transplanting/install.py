"""Putting the tensors of a slim program, and the attributes of its leaf modules, into a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from swdc.artifacts.transplanting.hooks import has_hooks, move_hooks
from swdc.artifacts.transplanting.places import loose_places, places
from swdc.artifacts.transplanting.unused_parts import Unused
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program
from swdc.ops.base import leaf_like
from swdc.ops.fused_attention import unfuse

_STANDARD = "torch.nn.modules."


def install(model: nn.Module, dense: Program, donor: Program) -> list[str]:
    """Put the donor's own tensors into a model by name, and set the sizes that its standard modules hold.

    A standard module is replaced if the donor has another class in its place. Returns the names of the
    parameters that the program does not read, which stay whole.
    """
    given = donor.tensors
    put_tensors(model, given, dense.tensors)
    for path, leaf in donor.leaves.items():
        _set_attributes(model, path, dense.leaves.get(path), leaf)
        for twin in _twins(model, path, leaf):
            _set_attributes(model, twin, dense.leaves.get(path), _same(leaf))
    for path, module in model.named_modules():
        _set_sizes(module, path, dense.tensors)
    read = {id(given[name]) for name in donor.read_tensors()}
    return [name for name, t in tensors_of(model).items() if isinstance(t, nn.Parameter) and id(t) not in read]


def alike(model: nn.Module, donor: Program) -> set[nn.Module]:
    """Return the modules of a model, after ``install``, that hold what the donor's module in their place holds."""
    modules = dict(model.named_modules())
    return {modules[path] for path, leaf in donor.leaves.items() if type(modules.get(path)) is type(leaf)}


def install_unused(model: nn.Module, unused: Unused) -> None:
    """Put into a model the tensors and sizes of what it runs although nothing uses the result."""
    given, before = unused.slim.tensors, unused.whole.tensors
    put_tensors(model, {name: given[name] for name in unused.tensors}, before)
    for path, leaf in unused.slim.leaves.items():
        if {f"{path}.{name}" for name in _tensors(leaf)} <= unused.tensors:
            _set_attributes(model, path, unused.whole.leaves.get(path), leaf)
    for path, module in model.named_modules():
        _set_sizes(module, path, before)


def put_tensors(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], constants: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Put tensors into a model by name, also where it keeps them in lists, dicts and objects.

    ``constants`` are the tensors of the model's program by name: with them, tensors that the model holds without
    registering them are replaced, too. Tensors for which the model has no place are left out.
    """
    before = tensors_of(model)
    new = {id(before[name]): tensor for name, tensor in tensors.items() if name in before}
    loose = [(place, tensors[name]) for place, name in loose_places(model, constants or {}) if name in tensors]
    kept = [(place, new[id(tensor)]) for place, tensor in places(model) if id(tensor) in new]
    for name, tensor in tensors.items():
        _put(model, name, tensor)
    for place, tensor in kept:
        place.put(tensor)
    made: dict[int, torch.Tensor] = {}
    for place, tensor in loose:
        old = place.get()
        if isinstance(old, nn.Parameter) and not isinstance(tensor, nn.Parameter):
            tensor = made.setdefault(id(old), nn.Parameter(tensor.detach().clone(), old.requires_grad))
        place.put(tensor)


def _put(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        return  # a constant of the graph or a bias of a call, which the user's model does not name
    if attribute in owner._buffers:
        owner._buffers[attribute] = tensor
    elif attribute in owner._parameters:
        owner._parameters[attribute] = tensor  # type: ignore[assignment]
    elif isinstance(vars(owner).get(attribute), torch.Tensor):
        vars(owner)[attribute] = tensor


def _twins(model: nn.Module, path: str, leaf: nn.Module) -> list[str]:
    """Return the paths of other modules that hold exactly the tensors of a leaf: the program calls them as one."""
    own = _tensors(leaf)
    modules = model.named_modules(remove_duplicate=False)
    return [other for other, module in modules if own and other != path and _tensors(module) == own]


def _same(leaf: nn.Module) -> nn.Module:
    """Return another module with the tensors of a leaf, because each module of the model is called by itself."""
    made: nn.Module = leaf.__new__(type(leaf))
    made.__dict__ = {name: v.copy() if isinstance(v, dict | set) else v for name, v in vars(leaf).items()}
    return made


def _tensors(module: nn.Module) -> dict[str, int]:
    found = (*module._parameters.items(), *module._buffers.items())
    return {name: id(tensor) for name, tensor in found if tensor is not None}


def _set_attributes(model: nn.Module, path: str, before: nn.Module | None, leaf: nn.Module) -> None:
    """Set the attributes in which the slim leaf differs from the dense one, if the user's module has them too."""
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return
    if before is not None and type(before) is not type(leaf) and type(module) is type(before):
        parent, _, name = path.rpartition(".")
        put = _same(leaf) if has_hooks(module) else leaf  # the program's own module gets no hooks
        move_hooks(module, put)
        model.get_submodule(parent)._modules[name] = put
        unfuse(model.get_submodule(parent))
    elif before is not None:
        for name, value in _plain(leaf).items():
            old = vars(before).get(name)
            if old != value and vars(module).get(name) == old:
                vars(module)[name] = value


def _plain(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if isinstance(v, int | tuple) and k != "training"}


def _set_sizes(module: nn.Module, path: str, before: dict[str, torch.Tensor]) -> None:
    """Set the sizes that a standard module holds, even if it is not a leaf of the program."""
    if not type(module).__module__.startswith(_STANDARD):
        return
    for name, (tensor, dim) in leaf_like(module).sizes.items():
        old, new = before[f"{path}.{tensor}"], getattr(module, tensor)
        if vars(module)[name] == old.shape[dim]:
            vars(module)[name] = new.shape[dim]
