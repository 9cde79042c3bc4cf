"""Results computed from a program's graph, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Derived:
    """Results by name. A result is stored with the source that it was computed from, and holds for this source only."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Hashable, Any]] = {}

    def get(self, name: str, source: Hashable, make: Callable[[], T]) -> T:
        """Return the result of ``make``, which is called again only if ``source`` (compared by ``==``) has changed."""
        if name not in self._found or self._found[name][0] != source:
            self._found[name] = (source, make())
        value: T = self._found[name][1]
        return value

    def __reduce__(self) -> Any:
        return Derived, ()  # results are computed again where a pickled program is loaded

    def copy(self) -> Derived:
        """Return an independent store of the same results."""
        new = Derived()
        new._found = dict(self._found)
        return new
