"""Equality and hash by content, for dataclasses that hold arrays and mappings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np


class ByContent:
    """A frozen dataclass that equals another of its class if all fields hold the same: arrays by shape and numbers.

    Mappings are compared in any order, lists and tuples alike. Declare the dataclass with ``eq=False``.
    """

    def __eq__(self, other: object) -> bool:
        """Whether another object is of the same class and holds the same."""
        if type(other) is not type(self):
            return NotImplemented
        return self is other or _content(self) == _content(other)

    def __hash__(self) -> int:
        return hash(_content(self))


def _content(value: Any) -> Hashable:
    """Return what a value holds, as something that can be compared and hashed."""
    if isinstance(value, ByContent):
        return (type(value), *(_content(getattr(value, field.name)) for field in fields(value)))  # type: ignore[arg-type]
    if isinstance(value, np.ndarray):
        return ("array", value.shape, tuple(value.ravel().tolist()))
    if isinstance(value, Mapping):
        return frozenset((key, _content(held)) for key, held in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_content, value))
    return value if isinstance(value, Hashable) else repr(value)
