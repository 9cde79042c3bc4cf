"""Other sizes than those of the example for which a program stands, so that it can be tried there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from swdc.ir.conditions import Condition, broken

_FARTHEST = 64
"""How far beyond twice a size to look for another one."""


def other_sizes(
    symbols: Mapping[str, int], conditions: Sequence[Condition], batch: str | None, larger: bool = False
) -> dict[str, int]:
    """Return a size for each symbol that meets the conditions: another one than in the example, if there is one near.

    Smaller ones come first, or larger ones. The ``batch`` stays as it is.
    """
    found = dict(symbols)
    for name, value in symbols.items():
        if name == batch:
            continue
        for candidate in _near(value, larger):
            if broken(tuple(conditions), {**found, name: candidate}) is None:
                found[name] = candidate
                break
    return found


def _near(value: int, larger: bool) -> Iterator[int]:
    below = [*range(max(2, 3 * value // 4), value), *range(max(2, 3 * value // 4) - 1, 1, -1)]
    above = list(range(value + 1, 2 * value + _FARTHEST))
    yield from [*above, *below] if larger else [*below, *above]
