"""Dataclasses in results, which torch's pytrees do not know: opened for capture, made anew by programs."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch.fx._pytree import register_pytree_flatten_spec
from torch.utils import _pytree as pytree

_BUILTIN = (type(None), bool, int, float, complex, str, bytes)
_OF_TORCH = (torch.Tensor, torch.SymInt, torch.dtype, torch.device, torch.memory_format, torch.layout, Enum)


@dataclass(frozen=True)
class _Class:
    """The class of an opened object, and the names of its parts. ``_fields`` is what a named tuple calls them.

    ``items`` are the keys of a dataclass that is also a dict, each with the field of the same value.
    """

    cls: type
    _fields: tuple[str, ...]
    items: tuple[tuple[Any, str], ...] = ()


class Opened:
    """An object whose parts pytrees see; unflattening its structure gives an object of the user's class."""

    def __init__(self, parts: Sequence[Any], kind: _Class) -> None:
        self.parts, self.kind = list(parts), kind


def is_returnable(value: Any) -> bool:
    """Whether a graph can return a value that is no container: a tensor, or plain data."""
    return type(value) in _BUILTIN or isinstance(value, _OF_TORCH)


def parts_of(value: Any) -> dict[str, Any] | None:
    """Return the parts of an object of a dataclass by name; ``None`` for any other object."""
    if not is_dataclass(value) or isinstance(value, type):
        return None
    return {field.name: getattr(value, field.name) for field in fields(value)}


def register_dataclasses(value: Any) -> bool:
    """Let torch's pytrees see into the dataclasses of a nested value; return whether there is one that they did not.

    A class with a field that is no argument stays as it is: torch would leave that field out.
    """
    found = False
    while True:
        unknown = [type(leaf) for leaf in pytree.tree_leaves(value) if parts_of(leaf) is not None]
        whole = [cls for cls in dict.fromkeys(unknown) if all(field.init for field in fields(cls))]
        for cls in whole:
            torch.export.register_dataclass(cls)
        if not whole:
            return found
        found = True


def opened(value: Any, parts: Mapping[str, Any]) -> Opened | None:
    """Return an object of the dataclass of ``value`` with the given parts.

    ``None`` if a graph cannot return one of them, or if the dataclass is also a container that holds something else.
    """
    whole = all(is_returnable(leaf) for leaf in pytree.tree_leaves(list(parts.values())))
    items = _items(value)
    return Opened([*parts.values()], _Class(type(value), tuple(parts), items)) if whole and items is not None else None


def _items(value: Any) -> tuple[tuple[Any, str], ...] | None:
    """Return the keys of a dataclass that is also a dict, each with the field of the same value.

    ``None`` if an item is in no field, or for a list, a tuple or a set.
    """
    if not isinstance(value, dict):
        return None if isinstance(value, list | tuple | set | frozenset) else ()
    parts = parts_of(value) or {}
    names = {key: next((name for name, part in parts.items() if part is item), None) for key, item in value.items()}
    items = tuple((key, name) for key, name in names.items() if name is not None)
    return items if len(items) == len(value) else None


def _made(parts: Any, kind: _Class) -> Any:
    base: Any = next(base for base in (OrderedDict, dict, object) if issubclass(kind.cls, base))
    made = base.__new__(kind.cls)
    held = dict(zip(kind._fields, parts, strict=True))
    for name, part in held.items():
        object.__setattr__(made, name, part)  # a frozen dataclass refuses setattr
    for key, name in kind.items:
        base.__setitem__(made, key, held[name])
    return made


def remade(spec: Any, change: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """Return a structure in which ``change`` gives each container its kind and its context."""
    if spec.is_leaf():
        return spec
    children = [remade(child, change) for child in spec.children()]
    return pytree.TreeSpec(*change(spec.type, spec.context), children)


def sizes_as_tuples(spec: Any) -> Any:
    """Return a structure in which each ``torch.Size`` is a tuple, which code that maps over inputs makes of it."""
    return remade(spec, lambda kind, context: (tuple if kind is torch.Size else kind, context))


def by_fields(spec: Any) -> Any:
    """Return a structure in which classes of named tuples and dataclasses are those that this module makes.

    A ``torch.Size`` counts as a tuple.
    """

    def change(kind: Any, context: Any) -> tuple[Any, Any]:
        if is_registered(kind, context):
            return argument_class(kind.__name__, (*context[0], *context[1])), context
        kind = tuple if kind is torch.Size else kind
        return kind, class_of_fields(context.__name__, context._fields) if kind is namedtuple else context

    return remade(spec, change)


@cache
def class_of_fields(name: str, fields: tuple[str, ...]) -> type:
    """Return a class of named tuples with a name and fields; the same one for the same names.

    Raises ``ValueError`` for names that are no identifiers.
    """
    return namedtuple(name, fields)


@cache
def record(name: str, fields: tuple[str, ...]) -> Any:
    """Return the context of an ``Opened`` object of a new dataclass with a name and fields.

    Raises ``ValueError`` or ``TypeError`` for names that are no identifiers.
    """
    if not name.isidentifier():
        raise ValueError(f"expected the name of a class, got {name!r}")
    return _Class(make_dataclass(name, fields), fields)


def is_registered(kind: Any, context: Any) -> bool:
    """Whether a container is a dataclass that ``torch.export.register_dataclass`` knows, without a name for text.

    Its context are the names of its fields, and of those that were ``None`` and left out.
    """
    known = pytree.SUPPORTED_SERIALIZED_TYPES.get(kind)
    unnamed = known is not None and known.serialized_type_name == pytree.NO_SERIALIZED_TYPE_NAME_FOUND
    lists = isinstance(context, list) and len(context) == 2 and all(isinstance(names, list) for names in context)
    return unnamed and lists and isinstance(kind, type) and is_dataclass(kind)


@cache
def argument_class(name: str, fields: tuple[str, ...]) -> type:
    """Return a new dataclass with a name and fields that pytrees know; the same one for the same names.

    Raises ``ValueError`` or ``TypeError`` for names that are no identifiers.
    """
    if not name.isidentifier():
        raise ValueError(f"expected the name of a class, got {name!r}")
    made = make_dataclass(name, fields)
    pytree.register_dataclass(made)
    register_pytree_flatten_spec(made, lambda value, spec: [getattr(value, name) for name in spec.context[0]])
    return made


pytree.register_pytree_node(Opened, lambda opened: (opened.parts, opened.kind), _made)
