"""Where a model keeps tensors: in its modules by name, and in lists, objects, closures and modules unknown to torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program

REGISTERED = ("_parameters", "_buffers", "_modules")
_OF_PROGRAMS = ("torch.fx.", "swdc.")
"""The modules of classes that hold no tensors of the user's."""
_DEEPEST = 8
_NO_CONTAINERS = (type, ModuleType, torch.dtype, torch.device, str, bytes, int, float, complex, type(None))


@dataclass(frozen=True)
class Place:
    """One place that holds something: ``get`` returns it, ``put`` replaces it."""

    get: Callable[[], Any]
    put: Callable[[Any], None]


def places(model: nn.Module) -> list[tuple[Place, torch.Tensor]]:
    """Return every place of a model that holds a tensor, each with its tensor; of a program, those that have names."""
    registered = set(model.modules())
    walk = _Walk(registered)
    for module in registered:
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    walk.found.append((_entry(store, name), tensor))
        for name in [name for name in vars(module) if name not in REGISTERED and not isinstance(model, Program)]:
            walk.visit(_entry(vars(module), name), 0)
    return walk.found


def tensors_in(value: Any, registered: set[nn.Module]) -> list[torch.Tensor]:
    """Return the tensors in what a module holds, other than those of the ``registered`` modules."""
    walk, held = _Walk(registered), [value]
    walk.visit(_entry(held, 0), 0)
    return [tensor for _, tensor in walk.found]


def loose_places(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> list[tuple[Place, str]]:
    """Return the places of tensors that a model holds without registering them, each with the name of its constant.

    ``tensors`` are those of the model's program by name. A tensor's constant is the one of the same values; where
    several have them, the constants are taken in the order of the tensors.
    """
    own = tensors_of(model)
    registered = {id(tensor) for tensor in own.values()}
    constants = {name: tensor for name, tensor in tensors.items() if name not in own}
    taken: dict[int, str] = {}
    found = []
    for place, tensor in places(model) if constants else ():
        if id(tensor) in registered:
            continue
        if id(tensor) not in taken:
            alike = [name for name, constant in constants.items() if _same(constant, tensor)]
            left = [name for name in alike if name not in taken.values()] or alike
            taken |= {id(tensor): left[0]} if left else {}
        if id(tensor) in taken:
            found.append((place, taken[id(tensor)]))
    return found


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.is_meta or other.is_meta:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())  # nan is nan


class _Walk:
    """Finds tensors in what a model holds. What several places hold is visited once, but each place is found."""

    def __init__(self, registered: set[nn.Module]) -> None:
        self.registered = registered
        self.found: list[tuple[Place, torch.Tensor]] = []
        self.seen: dict[int, Any] = {}

    def visit(self, place: Place, depth: int) -> None:
        """Find the tensors in what a place holds."""
        value = place.get()
        if isinstance(value, torch.Tensor):
            self.found.append((place, value))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            self.found.append((_array(place), torch.from_numpy(value)))
        elif not isinstance(value, _NO_CONTAINERS) and depth < _DEEPEST and id(value) not in self.seen:
            self.seen[id(value)] = value  # held, so that no other object takes its id
            for inner in self._inside(place, value):
                self.visit(inner, depth + 1)

    def _inside(self, place: Place, value: Any) -> Iterator[Place]:
        if type(value).__module__.startswith(_OF_PROGRAMS) or (
            isinstance(value, nn.Module) and value in self.registered
        ):
            return  # a module is visited by its path
        if isinstance(value, list):
            yield from (_entry(value, key) for key in range(len(value)))
        elif isinstance(value, dict):
            yield from (_entry(value, key) for key in list(value))
        elif isinstance(value, PARTED) and not isinstance(value, FunctionType):
            yield from (_part(place, key) for key in keys_of(value))
        elif isinstance(value, FunctionType):  # a copy of a model has the functions of the model: they stay as they are
            parts = (_part(place, key) for key in keys_of(value))
            yield from (part for part in parts if isinstance(part.get(), torch.Tensor))
        elif not isinstance(value, MethodType) and isinstance(getattr(value, "__dict__", None), dict):
            yield from (_entry(vars(value), key) for key in list(vars(value)))


def _entry(store: Any, key: Any) -> Place:
    return Place(lambda: store[key], lambda value: store.__setitem__(key, value))


def _array(place: Place) -> Place:
    """Return the place of an array of numpy as one of a tensor with the same memory."""
    return Place(lambda: torch.from_numpy(place.get()), lambda tensor: place.put(tensor.detach().cpu().numpy()))


def _part(whole: Place, key: Any) -> Place:
    """Return the place of a part of something that cannot be changed: a new one takes its place."""

    def put(item: Any) -> None:
        value = whole.get()
        if isinstance(value, PARTED) and key in keys_of(value):  # a run may have put something else there
            whole.put(with_item(value, key, item))

    return Place(lambda: item_of(whole.get(), key), put)


PARTED = (tuple, FunctionType, functools.partial)
"""What cannot be changed, but can be made anew with another item."""


def keys_of(value: Any) -> list[Any]:
    """Return the keys of the items of a tuple, of a function's closure, or of a partial function."""
    if isinstance(value, tuple):
        return list(range(len(value)))
    if isinstance(value, functools.partial):
        return [("args", place) for place in range(len(value.args))] + [("keywords", name) for name in value.keywords]
    cells = value.__closure__ or ()
    return [("closure", place) for place, cell in enumerate(cells) if _is_filled(cell)]


def item_of(value: Any, key: Any) -> Any:
    """Return an item by its key."""
    if isinstance(value, tuple):
        return value[key]
    kind, inner = key
    if isinstance(value, functools.partial):
        return (value.args if kind == "args" else value.keywords)[inner]
    return value.__closure__[inner].cell_contents


def with_item(value: Any, key: Any, item: Any) -> Any:
    """Return a tuple, function or partial function with another item; the given one stays as it is."""
    if isinstance(value, tuple):
        items = [item if place == key else old for place, old in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    kind, inner = key
    if isinstance(value, functools.partial):
        args = [item if (kind, inner) == ("args", place) else old for place, old in enumerate(value.args)]
        return functools.partial(
            value.func, *args, **{**value.keywords, **({inner: item} if kind == "keywords" else {})}
        )
    cells = tuple(CellType(item) if place == inner else cell for place, cell in enumerate(value.__closure__))
    made = FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
    made.__kwdefaults__ = value.__kwdefaults__
    made.__dict__.update(value.__dict__)
    return made


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises if the variable has no value yet
    except ValueError:
        return False
    return True
