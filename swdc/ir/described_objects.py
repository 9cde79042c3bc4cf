"""Arguments of a user's own classes, described by plain data: what stands for them in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_PLAIN = (type(None), bool, int, float, str)
_DEPTH = 8
"""How deep objects may hold each other: those that hold themselves have no end."""


@dataclass(frozen=True)
class Described:
    """An object by the name of its class, and its attributes or the name of a member of an enumeration.

    A loaded program has it in the place of the object that was built into it.
    """

    name: str
    parts: Mapping[str, Any]

    def describes(self, value: Any) -> bool:
        """Whether a value is of a class of that name, and has these parts."""
        other = described(value)
        return other is not None and repr(other) == repr(self)  # nan is nan, and zeros have signs


def described(value: Any) -> Described | None:
    """Return the description of an object that holds nothing but plain data; ``None`` for any other."""
    found = _described(value, _DEPTH)
    return found if isinstance(found, Described) else None


def _described(value: Any, depth: int) -> Any:
    """Return plain data, and objects and dicts as their descriptions; ``None`` for what has none."""
    if type(value) in _PLAIN or isinstance(value, Described):
        return value
    if isinstance(value, Enum):
        return Described(type(value).__name__, {"member": value.name})
    if depth == 0:
        return None
    if type(value) in (list, tuple):
        items = [_described(item, depth - 1) for item in value]
        missing = any(new is None and old is not None for new, old in zip(items, value, strict=True))
        return None if missing else type(value)(items)
    held = value if type(value) is dict else _attributes(value)
    if held is None or not all(type(name) is str for name in held):
        return None
    parts = {name: _described(item, depth - 1) for name, item in sorted(held.items())}
    if any(part is None and held[name] is not None for name, part in parts.items()):
        return None
    return Described(type(value).__name__, parts)


class _Empty:
    """An object that has attributes and nothing else: any that holds more in memory is larger."""


def _attributes(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an object that holds nothing else; ``None`` for tensors, arrays, functions, ..."""
    if type(value).__basicsize__ != _Empty.__basicsize__ or type(value).__itemsize__ or callable(value):
        return None
    held: dict[str, Any] | None = getattr(value, "__dict__", None)
    return held
