"""Running a model, or a program, in float64 without changing what it stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from swdc.artifacts.transplanting.places import Place, places
from swdc.ir.call import schema_names
from swdc.ir.dtypes_and_devices import compute_in, default_dtype
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.ops.base import Operator, called_by, target_of
from swdc.ops.in_place import operator_of
from swdc.ops.special_activations import keep_all
from swdc.rewriting.runs import keep_narrow

_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_WIDE = {**dict.fromkeys(_NARROW, torch.float64), torch.complex32: torch.complex128, torch.complex64: torch.complex128}
_CASTS: Any = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}


class Tensors:
    """Replaces a model's tensors by float64 copies, one for each tied tensor, and takes them out again."""

    def __init__(self) -> None:
        self._wide: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._places: list[tuple[Place, torch.Tensor]] = []

    def widen(self, model: nn.Module) -> None:
        """Replace every tensor by a copy, in float64 if it is floating, unless it is a copy already."""
        for place, tensor in places(model):
            if id(tensor) not in self._stored:
                place.put(self._copy(tensor))
                self._places.append((place, tensor))

    def restore(self, model: nn.Module) -> None:
        """Put back the tensors from which the copies were made, even if a run replaced the copies."""
        for place, tensor in self._places:
            place.put(tensor)
        self._places = []
        for place, tensor in places(model):
            if id(tensor) in self._stored:
                place.put(self._stored[id(tensor)][1])

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self._wide:
            data = widened(tensor.detach().clone())
            is_parameter = isinstance(tensor, nn.Parameter)
            wide = nn.Parameter(data, tensor.requires_grad) if is_parameter else data
            self._wide[id(tensor)] = (tensor, wide)
            self._stored[id(wide)] = (wide, tensor)
        return self._wide[id(tensor)][1]


def widened(value: Any) -> Any:
    """Return a floating tensor or type in float64, a complex one in complex128, and anything else unchanged."""
    if isinstance(value, torch.Tensor):
        return value.to(_WIDE.get(value.dtype, value.dtype))
    return _WIDE.get(value, value) if isinstance(value, torch.dtype) else value


def _narrowed(operator: Operator, args: Any, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments of a call in which those that the operator takes in float32 alone are in float32."""
    places = {number: name for number, (name, _) in enumerate(schema_names(target_of(operator.names[0])))}

    def narrow(name: str | None, value: Any) -> Any:
        return value.float() if name in operator.narrow and isinstance(value, torch.Tensor) else value

    with torch._C.DisableTorchFunction():
        given = [narrow(places.get(number), value) for number, value in enumerate(args)]
        return given, {name: narrow(name, value) for name, value in kwargs.items()}


class _Wide(TorchFunctionMode):
    """Makes code that names a floating type compute in float64, and disables dropout."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CASTS:
            func = torch.Tensor.double
        operator = called_by(func)
        if operator.drops:
            return args[0] if args else (kwargs or {})["input"]
        if operator.narrow:
            args, kwargs = _narrowed(operator, args, kwargs or {})
        overload = isinstance(func, torch._ops.OpOverload)
        wide = (operator_of(func) if overload else operator).wide(args, kwargs or {})
        if wide is not NotImplemented:
            return wide
        cast = [widened(a) if isinstance(a, torch.dtype) else a for a in args]
        named = {k: widened(v) if isinstance(v, torch.dtype) else v for k, v in (kwargs or {}).items()}
        return func(*cast, **named)


@contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64 even if the code asks for another type, without dropout and without gradients."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), default_dtype(torch.float64), _Wide():
        seed_all(0)
        yield


def wide_program(program: Program) -> Program:
    """Return a copy of a program that computes in float64 throughout."""
    copy = program.clone()
    Tensors().widen(copy)
    keep_narrow(program, copy)
    compute_in(copy, torch.float64)
    keep_all(copy, scaled=False)
    return copy


def wide_inputs(inputs: Any) -> Any:
    """Return nested inputs with all floating tensors in float64."""
    return pytree.tree_map_only(torch.Tensor, widened, inputs)
