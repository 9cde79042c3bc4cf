"""Settings of groups: one for all, or some by names of groups or shell patterns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from swdc.errors import PlanError
from swdc.ir.groups import ChannelGroup

T = TypeVar("T")


def for_groups(
    name: str, groups: Sequence[ChannelGroup], given: T | Mapping[str, T], default: T, check: Callable[[str, T], None]
) -> list[T]:
    """Return the setting ``name`` of each group, ``default`` for groups that no pattern matches.

    A group takes what stands under its own name, otherwise that of the first pattern that matches. Raises ``PlanError``
    if ``check`` does, or if a pattern matches no group.
    """
    if not isinstance(given, Mapping):
        check(name, given)
        return [given] * len(groups)
    names = [group.name for group in groups]
    for pattern, value in given.items():
        check(name, value)
        if not any(_matches(pattern, each) for each in names):
            raise PlanError(
                f"expected {name} for groups of this program, but {pattern!r} names none; groups are called "
                f"{', '.join(names[:3])}; program.groups lists them"
            )
    return [_value_for(each, given, default) for each in names]


def matching(setting: str, names: Sequence[str], pattern: str) -> list[str]:
    """Return the names that a shell pattern matches; ``PlanError`` if there are none."""
    found = [name for name in names if _matches(pattern, name)]
    if not found:
        raise PlanError(
            f"expected {setting} to name some of {', '.join(names[:3]) or 'none'}, but {pattern!r} matches none of them"
        )
    return found


def _value_for(name: str, given: Mapping[str, T], default: T) -> T:
    found = [value for pattern, value in given.items() if _matches(pattern, name)]
    return given.get(name, found[0] if found else default)


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)
