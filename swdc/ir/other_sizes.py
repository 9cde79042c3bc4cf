"""Other sizes than those of the example for which a program stands, so that it can be tried there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from swdc.ir.conditions import Condition, broken

_FARTHEST = 64
"""How far beyond twice a size to look for another one."""
_CHEAP = 16
"""A size of which a smaller one would not make a run much cheaper."""


def other_sizes(
    symbols: Mapping[str, int], conditions: Sequence[Condition], batch: str | None, larger: bool = False
) -> dict[str, int]:
    """Return a size for each symbol that meets the conditions: another one than in the example, if there is one near.

    Smaller ones come first, from half on, or larger ones. The ``batch`` stays as it is.
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
    half = max(2, value // 2)
    below = [*range(half, value), *range(half - 1, 1, -1)]
    above = list(range(value + 1, 2 * value + _FARTHEST))
    yield from [*above, *below] if larger else [*below, *above]


def cheaper_sizes(
    symbols: Mapping[str, int], conditions: Sequence[Condition], batch: str | None, growing: Collection[str] = ()
) -> dict[str, int]:
    """Return other sizes for symbols, at which all conditions hold: about a quarter of the example's if that is legal.

    Two symbols get the same size only if the conditions ask for it. Those in ``growing`` become a little larger
    instead. The ``batch``, and symbols of which no other size is near, are left out.
    """
    found, free = dict(symbols), [name for name in symbols if name != batch]
    for number, name in enumerate(free):
        _move(found, [name], _larger(symbols[name]) if name in growing else _smaller(symbols[name], number), conditions)
    for value in {symbols[name] for name in free}:
        together = [name for name in free if symbols[name] == found[name] == value and name not in growing]
        _move(found, together, _smaller(value, 0), conditions)
    return {name: found[name] for name in free if found[name] != symbols[name]}


def _move(found: dict[str, int], names: Sequence[str], sizes: Iterable[int], conditions: Sequence[Condition]) -> None:
    """Give some symbols the first of the sizes at which all conditions hold, if there is one."""
    for size in sizes:
        moved = {**found, **dict.fromkeys(names, size)}
        if broken(tuple(conditions), moved) is None:
            found.update(moved)
            return


def _smaller(value: int, shift: int) -> range:
    return range(max(2, min(3 * value // 4, max(_CHEAP, value // 4))) + shift, value)


def _larger(value: int) -> range:
    return range(value + 1, 2 * value + _FARTHEST)
