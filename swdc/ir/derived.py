"""Results that follow from a program's graph, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Derived:
    """Results by name, each with what it was computed from; a result of anything else is computed anew."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Hashable, Any]] = {}

    def get(self, name: str, source: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returns; called once, until ``source`` (compared by ``==``) is another."""
        if name not in self._found or self._found[name][0] != source:
            self._found[name] = (source, make())
        value: T = self._found[name][1]
        return value

    def copy(self) -> Derived:
        """Return a store of the same results, to which others can be added."""
        new = Derived()
        new._found = dict(self._found)
        return new
