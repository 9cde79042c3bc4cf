"""Models whose parameters take no memory, to be traced and planned on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from swdc.capture.batch import on_meta
from swdc.capture.trace import Example, trace
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program
from swdc.ir.trace_options import HEADS


class _EmptyOnMeta(TorchFunctionMode):
    """Puts tensors of ``torch.empty``, which modules make parameters with, on the meta device; all else is computed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def trace_skeleton(
    make: Callable[[], nn.Module], example: Example, types: Mapping[str, torch.dtype], attention: str = HEADS
) -> Program:
    """Return the program, on the meta device, of the model that ``make`` returns, in evaluation mode.

    Parameters that ``torch.empty`` allocates, as in ``torch.nn``, never take memory. ``types`` maps the name of each
    tensor of a checkpoint to its type. Buffers that the checkpoint lacks keep the values that the model computed.
    """
    with _EmptyOnMeta():
        model = make().eval()
    tensors = tensors_of(model)
    own = {n: t for n, t in tensors.items() if not (t.is_meta or n in types or isinstance(t, nn.Parameter))}
    _move(model, types)
    program = trace(model, on_meta(example), attention)
    for name, value in own.items():
        path, _, attribute = name.rpartition(".")
        program.get_submodule(path)._buffers[attribute] = value
    structure = pytree.tree_structure(program.facts.example)
    inputs = pytree.tree_unflatten(pytree.tree_leaves(example), structure)
    return program.with_facts(example=inputs)


def _move(model: nn.Module, types: Mapping[str, torch.dtype]) -> None:
    """Put all tensors of a model on the meta device, in the given types; tied tensors stay tied."""
    names: dict[int, list[str]] = {}
    for name, tensor in tensors_of(model).items():
        names.setdefault(id(tensor), []).append(name)
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for store in stores:
            for attribute, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:
                    dtype = next((types[n] for n in names[id(tensor)] if n in types), tensor.dtype)
                    moved[id(tensor)] = _like(tensor, dtype)
                store[attribute] = moved[id(tensor)]


def _like(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.is_meta and tensor.dtype == dtype:
        return tensor
    empty = torch.empty_like(tensor, device="meta", dtype=dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
