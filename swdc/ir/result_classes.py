"""Dataclasses in results, which torch's pytrees do not know: opened for capture, made anew by programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import torch
from torch.utils import _pytree as pytree

_BUILTIN = (type(None), bool, int, float, complex, str, bytes)
_OF_TORCH = (torch.Tensor, torch.SymInt, torch.dtype, torch.device, torch.memory_format, torch.layout, Enum)


@dataclass(frozen=True)
class _Class:
    """The class of an opened object, and the names of its parts. ``_fields`` is what a named tuple calls them."""

    cls: type
    _fields: tuple[str, ...]


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


def opened(cls: type, parts: Mapping[str, Any]) -> Opened | None:
    """Return an object of a dataclass with the given parts; ``None`` if a graph cannot return one of them."""
    whole = all(is_returnable(leaf) for leaf in pytree.tree_leaves(list(parts.values())))
    return Opened([*parts.values()], _Class(cls, tuple(parts))) if whole else None


def _made(parts: Any, kind: _Class) -> Any:
    made: Any = object.__new__(kind.cls)
    for name, part in zip(kind._fields, parts, strict=True):
        object.__setattr__(made, name, part)  # a frozen dataclass refuses setattr
    return made


def classes_in(spec: Any) -> list[str]:
    """Return the names of the classes that a program makes anew in a result of this structure."""
    own = [spec.context.cls.__name__] if spec.type is Opened else []
    return list(dict.fromkeys([*own, *(name for child in spec.children() for name in classes_in(child))]))


def without_classes(spec: Any) -> pytree.TreeSpec:
    """Return the structure of a result in which every such object is a dict of its parts."""
    return pytree.tree_structure(_plain(spec))


def _plain(spec: Any) -> Any:
    if spec.is_leaf():
        return 0
    parts = [_plain(child) for child in spec.children()]
    if spec.type is Opened:
        return dict(zip(spec.context._fields, parts, strict=True))
    return pytree.SUPPORTED_NODES[spec.type].unflatten_fn(parts, spec.context)


pytree.register_pytree_node(Opened, lambda opened: (opened.parts, opened.kind), _made)
