"""Helpers of operators that leaf modules represent: naming the tensors of modules, and moving tensors into them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from swdc.ir.call import Call, Ref


def refs(module: nn.Module, path: str, *names: str) -> dict[str, Any]:
    """Return the tensors of a module as arguments: a ``Ref`` for each that it has, ``None`` otherwise."""
    return {name: Ref(f"{path}.{name}") if getattr(module, name) is not None else None for name in names}


@cache
def _without_initialisation(cls: Any) -> Any:
    return type(cls.__name__, (cls,), {"reset_parameters": lambda self: None})


def bare(cls: Any, *args: Any, **options: Any) -> nn.Module:
    """Return a module on the meta device with uninitialised parameters; ``adopt`` puts its tensors in."""
    module: nn.Module = _without_initialisation(cls)(*args, device="meta", **options)
    module.__class__ = cls
    return module


def adopt(module: nn.Module, call: Call, tensors: Mapping[str, torch.Tensor], *names: str) -> nn.Module:
    """Put the tensors of a call into a module built on the meta device, and return it."""
    for name in names:
        reference = call[name]
        tensor = None if reference is None else tensors[reference]
        store = module._buffers if name in module._buffers else module._parameters
        store[name] = tensor  # type: ignore[assignment]
    return module


def path_of(call: Call, *names: str) -> str | None:
    """Return the path of the module whose attributes ``names`` the call reads; ``None`` if there is no single one."""
    paths = set()
    for name in names:
        reference = call[name]
        if reference is None:
            continue
        if not isinstance(reference, Ref):
            return None
        path, _, attribute = reference.rpartition(".")
        if attribute != name or not path:
            return None
        paths.add(path)
    return paths.pop() if len(paths) == 1 else None
