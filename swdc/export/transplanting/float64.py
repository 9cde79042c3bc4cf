"""Running a model, or a program, in float64 without changing what it stores."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from swdc.ir.dtypes_and_devices import compute_in, default_dtype
from swdc.ir.program import Program
from swdc.ops.base import called_by

_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_WIDE = {**dict.fromkeys(_NARROW, torch.float64), torch.complex32: torch.complex128, torch.complex64: torch.complex128}
_CASTS: Any = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}
_REGISTERED = ("_parameters", "_buffers", "_modules")


class Tensors:
    """Replaces a model's tensors by float64 copies, one for each tied tensor, and takes them out again."""

    def __init__(self) -> None:
        self._wide: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._places: dict[tuple[int, Any], torch.Tensor] = {}

    def widen(self, model: nn.Module) -> None:
        """Replace every tensor by a copy, in float64 if it is floating, unless it is a copy already."""
        for store, name, tensor in _slots(model):
            if id(tensor) not in self._stored:
                store[name] = self._copy(tensor)
                self._places[id(store), name] = tensor

    def restore(self, model: nn.Module) -> None:
        """Put back the tensors from which the copies were made, even if a run replaced the copies."""
        for store, name, tensor in _slots(model):
            if id(tensor) in self._stored:
                store[name] = self._stored[id(tensor)][1]
            elif (id(store), name) in self._places:
                store[name] = self._places[id(store), name]

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self._wide:
            data = widened(tensor.detach().clone())
            is_parameter = isinstance(tensor, nn.Parameter)
            wide = nn.Parameter(data, tensor.requires_grad) if is_parameter else data
            self._wide[id(tensor)] = (tensor, wide)
            self._stored[id(wide)] = (wide, tensor)
        return self._wide[id(tensor)][1]


def _slots(model: nn.Module) -> list[tuple[Any, Any, torch.Tensor]]:
    """Return every place of a model that holds a tensor: a dict or a list, and a key."""
    own = [
        (store, name, tensor)
        for module in model.modules()
        for store in (module._parameters, module._buffers)
        for name, tensor in store.items()
        if tensor is not None
    ]
    return [*own, *kept_in_containers(model, {id(tensor) for _, _, tensor in own})]


def kept_in_containers(model: nn.Module, tensors: Collection[int]) -> list[tuple[Any, Any, torch.Tensor]]:
    """Return the places in lists and dicts that modules hold where a tensor with one of these ids stands, too."""
    values = [v for module in model.modules() for name, v in vars(module).items() if name not in _REGISTERED]
    lists = [(items, key, item) for items in values if isinstance(items, list) for key, item in enumerate(items)]
    dicts = [(items, key, item) for items in values if isinstance(items, dict) for key, item in items.items()]
    return [place for place in (*lists, *dicts) if id(place[2]) in tensors]


def widened(value: Any) -> Any:
    """Return a floating tensor or type in float64, a complex one in complex128, and anything else unchanged."""
    if isinstance(value, torch.Tensor):
        return value.to(_WIDE.get(value.dtype, value.dtype))
    return _WIDE.get(value, value) if isinstance(value, torch.dtype) else value


class _Wide(TorchFunctionMode):
    """Makes code that names a floating type compute in float64, and disables dropout."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CASTS:
            func = torch.Tensor.double
        if called_by(func).drops:
            return args[0] if args else (kwargs or {})["input"]
        cast = [widened(a) if isinstance(a, torch.dtype) else a for a in args]
        named = {k: widened(v) if isinstance(v, torch.dtype) else v for k, v in (kwargs or {}).items()}
        return func(*cast, **named)


@contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64 even if the code asks for another type, without dropout and without gradients."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), default_dtype(torch.float64), _Wide():
        torch.manual_seed(0)
        yield


def wide_program(program: Program) -> Program:
    """Return a copy of a program that computes in float64 throughout."""
    copy = program.clone()
    Tensors().widen(copy)
    compute_in(copy, torch.float64)
    return copy


def wide_inputs(inputs: Any) -> Any:
    """Return nested inputs with all floating tensors in float64."""
    return pytree.tree_map_only(torch.Tensor, widened, inputs)
