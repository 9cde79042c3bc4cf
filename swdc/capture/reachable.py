"""What a model's code can reach, and where it can keep something: objects, classes, globals, closures and caches."""

from __future__ import annotations

import functools
import random
import sys
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.capture.mutable_objects import GENERATORS, Bytes, Draws, Settings, Slots, slots_of
from swdc.capture.mutable_state import Array, Cell, Container, Names, Place, Results, SeldomWritten, Values, content_of

_Cached = functools._lru_cache_wrapper
_ATOMS = (str, bytes, int, float, complex, type(None), torch.device, torch.dtype)
_PLAIN = (list, dict, OrderedDict, tuple, set, deque)
"""Types whose instances hold nothing in attributes."""
_NOT_OF_THE_MODEL = {*sys.stdlib_module_names, "numpy", "swdc", "sympy", "torch", "typing_extensions"} - {"__main__"}
"""Packages whose classes and globals stay as they are: they keep nothing that belongs to a model."""
_ACCESS = {"__init__", "__getitem__", "__setitem__", "clear", "copy", "update", "values"}


def places_of(model: nn.Module, given: Any = (), parameters: bool = False) -> list[Place]:
    """Return every place that a model's code can reach from its modules, its inputs and by the names that it uses.

    The values of ``parameters`` are among them if that is true; they are copied.
    """
    walk = _Walk(parameters)
    walk.pending += [model, given]
    while walk.pending:
        item = walk.pending.pop()
        if type(item) not in _ATOMS and id(item) not in walk.seen:  # most are not looked at further
            walk.visit(item)
    return [Settings(), *walk.found, *(Names(owner, names) for owner, names in walk.globals.values())]


class _Walk:
    def __init__(self, parameters: bool) -> None:
        self.kinds = (torch.Tensor, nn.Parameter) if parameters else (torch.Tensor,)
        self.found: list[Place] = []
        self.globals: dict[int, tuple[dict[str, Any], dict[str, None]]] = {}  # the names that are used of each module
        self.pending: list[Any] = []
        self.seen: dict[int, Any] = {}
        self.attributes: dict[str, list[Any]] = {}
        self.names: set[str] = {"forward"}

    def visit(self, item: Any) -> None:
        """Note the places in one object, and what they hold as the next objects to visit."""
        self.seen[id(item)] = item  # held, so that no other object takes its id
        if type(item) in _PLAIN or isinstance(item, nn.Module):  # nearly all are
            self._object(item)
            return
        match item:
            case str() | bytes() | int() | float() | complex():  # of a class of their own, such as an enumeration
                pass
            case torch.Tensor():
                self._tensor(item)
            case np.ndarray():
                self.found.append(Array(item))
                self.pending += item.flat if item.dtype == object else ()
            case bytearray() | array():
                self.found.append(Bytes(item))
            case FunctionType():
                self._function(item)
            case MethodType():
                self.pending += [item.__func__, item.__self__]
            case type():
                self._class(item)
            case ModuleType():
                pass
            case _Cached():
                self.found.append(Results(item))
                self.pending.append(item.__wrapped__)
            case staticmethod() | classmethod():
                self.pending.append(item.__func__)
            case property():
                self.pending += [item.fget, item.fset]
            case _:
                self._object(item)

    def _tensor(self, tensor: torch.Tensor) -> None:
        whole = type(tensor) in self.kinds and tensor.layout == torch.strided
        if whole and not tensor.is_meta and not tensor.is_inference():
            self.found.append(SeldomWritten(tensor) if isinstance(tensor, nn.Parameter) else Values(tensor))

    def _function(self, function: FunctionType) -> None:
        if not of_the_model(function.__module__):
            return
        self.pending += [function.__defaults__, function.__kwdefaults__, function.__dict__]
        for cell in function.__closure__ or ():
            self.found.append(Cell(cell))
            self.pending.append(content_of(cell))
        names = tuple(dict.fromkeys(names_in(function.__code__)))
        new = set(names) - self.names
        self.names |= new
        for name in new:
            self.pending += self.attributes.get(name, ())
        self._globals(function.__globals__, names)
        for name in names:
            module = function.__globals__.get(name)
            if isinstance(module, ModuleType) and of_the_model(module.__name__):
                self._globals(vars(module), names)

    def _globals(self, owner: dict[str, Any], names: tuple[str, ...]) -> None:
        _, used = self.globals.setdefault(id(owner), (owner, {}))
        new = [name for name in names if name not in used]
        used.update(dict.fromkeys(new))
        self.pending += [owner[name] for name in new if name in owner]

    def _class(self, cls: type) -> None:
        if not of_the_model(cls.__module__):
            return
        self.found.append(Names(cls))
        self.pending += cls.__bases__
        for name, value in vars(cls).items():
            if name in self.names or name.startswith("__"):
                self.pending.append(value)
            else:
                self.attributes.setdefault(name, []).append(value)

    def _object(self, item: Any) -> None:
        if type(item) in _PLAIN:
            self._contents(item)
            return
        if type(item).__module__.partition(".")[0] == "logging":
            return
        self._contents(item)
        self._contents(_attributes_of(item))
        self.pending += [type(item), *_held_by_partial(item)]
        if isinstance(item, GENERATORS) and not isinstance(item, random.SystemRandom):
            self.found.append(Draws(item))
        elif of_the_model(type(item).__module__) and (names := slots_of(type(item))):
            self.found.append(Slots(item, names))
            self.pending += self.found[-1].held().values()

    def _contents(self, item: Any) -> None:
        if isinstance(item, tuple):
            self.pending += item
        elif isinstance(item, list | dict | set | deque) and _behaves_plainly(type(item)):
            self.found.append(Container(item))
            self.pending += item.values() if isinstance(item, dict) else item


def _attributes_of(item: Any) -> Any:
    """Return the dict of an object's attributes, ``None`` if it has none, without code of its class that may fail."""
    try:
        return object.__getattribute__(item, "__dict__")
    except AttributeError:
        return None


def _held_by_partial(item: Any) -> tuple[Any, ...]:
    return (item.func, item.args, item.keywords) if isinstance(item, functools.partial) else ()


@functools.cache
def _behaves_plainly(cls: type) -> bool:
    """Whether a list, dict or set can be copied and refilled: its class may compute items when they are asked for."""
    own = [base for base in cls.__mro__ if base.__module__ not in ("builtins", "collections")]
    return not any(_ACCESS & vars(base).keys() for base in own)


@functools.cache
def of_the_model(module: str | None) -> bool:
    """Whether a class or function of this module may belong to a model: it is neither of the library nor of torch."""
    return bool(module) and str(module).partition(".")[0] not in _NOT_OF_THE_MODEL


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names that code uses, that of functions inside it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
