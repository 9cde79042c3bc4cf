"""The places where a model's code can keep something: objects, containers, classes, globals, closures and caches."""

from __future__ import annotations

import functools
import gc
import sys
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

_Cached = functools._lru_cache_wrapper
_ATOMS = (str, bytes, int, float, complex, type(None), torch.device, torch.dtype)
_CODE = (FunctionType, MethodType, ModuleType, type)
_PLAIN = (list, dict, OrderedDict, tuple, set)
"""Types whose instances hold nothing in attributes."""
_NOT_OF_THE_MODEL = {*sys.stdlib_module_names, "numpy", "swdc", "sympy", "torch", "typing_extensions"} - {"__main__"}
"""Packages whose classes and globals stay as they are: they keep nothing that belongs to a model."""
_ACCESS = {"__init__", "__getitem__", "__setitem__", "clear", "copy", "update", "values"}
_ABSENT = object()


class Place(ABC):
    """One place, and what it held when it was found."""

    @abstractmethod
    def changed(self) -> bool:
        """Whether the place holds something else now."""

    @abstractmethod
    def put_back(self) -> None:
        """Let the place hold what it held, if it has changed."""


class _Container(Place):
    """A list, dict or set, or the attributes of an object."""

    def __init__(self, live: Any) -> None:
        self.live, self.before = live, live.copy()

    def changed(self) -> bool:
        return not _same(self.live, self.before)

    def put_back(self) -> None:
        if isinstance(self.live, list):
            self.live[:] = self.before
        else:
            self.live.clear()
            self.live.update(self.before)


class _Names(Place):
    """Some globals of a module, or the attributes of a class, except for code."""

    def __init__(self, owner: Any, names: Iterator[str] | None = None) -> None:
        self.owner, self.names = owner, None if names is None else tuple(names)
        self.before = self._held()

    def changed(self) -> bool:
        return not _same(self._held(), self.before)

    def put_back(self) -> None:
        now = self._held()
        for name in {**self.before, **now}:
            if now.get(name, _ABSENT) is not self.before.get(name, _ABSENT):
                self._set(name, self.before.get(name, _ABSENT))

    def _held(self) -> dict[str, Any]:
        everything = self.owner if isinstance(self.owner, dict) else vars(self.owner)
        names = [n for n in everything if not n.startswith("__")] if self.names is None else self.names
        return {n: everything[n] for n in names if n in everything and not isinstance(everything[n], _CODE)}

    def _set(self, name: str, value: Any) -> None:
        if isinstance(self.owner, dict):
            self.owner.update({name: value}) if value is not _ABSENT else self.owner.pop(name, None)
        else:
            setattr(self.owner, name, value) if value is not _ABSENT else delattr(self.owner, name)


class _Cell(Place):
    """A variable that a function shares with the function that it was defined in."""

    def __init__(self, cell: CellType) -> None:
        self.cell, self.before = cell, _content(cell)

    def changed(self) -> bool:
        return _content(self.cell) is not self.before

    def put_back(self) -> None:
        self.cell.cell_contents = self.before


class _Values(Place):
    """The values of a tensor that is no parameter."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.before = tensor, tensor.detach().clone()

    def changed(self) -> bool:
        return not torch.equal(self.tensor, self.before)  # a batch norm leaves the version of a buffer as it is

    def put_back(self) -> None:
        with torch.no_grad():
            self.tensor.copy_(self.before)


class _Results(Place):
    """The results that ``functools.cache`` keeps. Tensors among them belong to one run, and are forgotten."""

    def __init__(self, function: Any) -> None:
        self.function, self.misses = function, function.cache_info().misses

    def changed(self) -> bool:
        return bool(self.function.cache_info().misses != self.misses)

    def put_back(self) -> None:
        if any(map(_holds_tensor, gc.get_referents(self.function))):
            self.function.cache_clear()
        self.misses = self.function.cache_info().misses


def places_of(model: nn.Module) -> list[Place]:
    """Return every place that a model's code can reach from its modules and by the names that it uses."""
    walk = _Walk()
    walk.pending.append(model)
    while walk.pending:
        walk.visit(walk.pending.pop())
    return walk.found


class _Walk:
    def __init__(self) -> None:
        self.found: list[Place] = []
        self.pending: list[Any] = []
        self.seen: dict[int, Any] = {}
        self.attributes: dict[str, list[Any]] = {}
        self.names: set[str] = {"forward"}

    def visit(self, item: Any) -> None:
        """Note the places in one object, and what they hold as the next objects to visit."""
        if isinstance(item, _ATOMS) or id(item) in self.seen:
            return
        self.seen[id(item)] = item  # held, so that no other object takes its id
        match item:
            case torch.Tensor():
                self._tensor(item)
            case FunctionType():
                self._function(item)
            case MethodType():
                self.pending += [item.__func__, item.__self__]
            case type():
                self._class(item)
            case ModuleType():
                pass
            case _Cached():
                self.found.append(_Results(item))
                self.pending.append(item.__wrapped__)
            case staticmethod() | classmethod():
                self.pending.append(item.__func__)
            case property():
                self.pending += [item.fget, item.fset]
            case _:
                self._object(item)

    def _tensor(self, tensor: torch.Tensor) -> None:
        whole = type(tensor) is torch.Tensor and tensor.layout == torch.strided
        if whole and not tensor.is_meta and not tensor.is_inference():
            self.found.append(_Values(tensor))

    def _function(self, function: FunctionType) -> None:
        if not _of_the_model(function.__module__):
            return
        self.pending += [function.__defaults__, function.__kwdefaults__, function.__dict__]
        for cell in function.__closure__ or ():
            self.found.append(_Cell(cell))
            self.pending.append(_content(cell))
        names = tuple(dict.fromkeys(_names_in(function.__code__)))
        new = set(names) - self.names
        self.names |= new
        for name in new:
            self.pending += self.attributes.get(name, ())
        self._globals(function.__globals__, names)
        for name in names:
            module = function.__globals__.get(name)
            if isinstance(module, ModuleType) and _of_the_model(module.__name__):
                self._globals(vars(module), names)

    def _globals(self, owner: dict[str, Any], names: tuple[str, ...]) -> None:
        self.found.append(_Names(owner, iter(names)))
        self.pending += [owner[name] for name in names if name in owner]

    def _class(self, cls: type) -> None:
        if not _of_the_model(cls.__module__):
            return
        self.found.append(_Names(cls))
        self.pending += cls.__bases__
        for name, value in vars(cls).items():
            if name in self.names or name.startswith("__"):
                self.pending.append(value)
            else:
                self.attributes.setdefault(name, []).append(value)

    def _object(self, item: Any) -> None:
        if type(item).__module__.partition(".")[0] == "logging":
            return
        attributes = None if type(item) in _PLAIN else getattr(item, "__dict__", None)
        for contents in (item, attributes):
            if isinstance(contents, list | dict | set) and _behaves_plainly(type(contents)):
                self.found.append(_Container(contents))
                self.pending += contents.values() if isinstance(contents, dict) else contents
        if isinstance(item, tuple):
            self.pending += item
        self.pending += [type(item), *_held_by_partial(item)]


def _held_by_partial(item: Any) -> tuple[Any, ...]:
    return (item.func, item.args, item.keywords) if isinstance(item, functools.partial) else ()


def _behaves_plainly(cls: type) -> bool:
    """Whether a list, dict or set can be copied and refilled: its class may compute items when they are asked for."""
    own = [base for base in cls.__mro__ if base.__module__ not in ("builtins", "collections")]
    return not any(_ACCESS & vars(base).keys() for base in own)


def _of_the_model(module: str | None) -> bool:
    return bool(module) and str(module).partition(".")[0] not in _NOT_OF_THE_MODEL


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _same(live: Any, before: Any) -> bool:
    if len(live) != len(before):
        return False
    if isinstance(live, Mapping):
        return all(live.get(key, _ABSENT) is value for key, value in before.items())
    if isinstance(live, set):
        return bool(live == before)
    return all(one is other for one, other in zip(live, before, strict=True))


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, torch.Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensor, value)))
