"""Units of channels: a group keeps a multiple of its unit, because kernels compute channels in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import gcd, lcm
from typing import TypeAlias

import numpy as np

from swdc.errors import PlanError
from swdc.ir.groups import ChannelGroup, Ids
from swdc.sparsity.arguments import check_count

RoundTo: TypeAlias = int | Mapping[str, int]
"""One number for all groups, or numbers by names of groups or shell patterns; 1 for groups that match none."""


def units_of(groups: Sequence[ChannelGroup], round_to: RoundTo) -> Ids:
    """Return for each group the number of channels that are kept or removed together.

    The sizes of the group's tensors become multiples of the given number. A head of 64 positions is a multiple of 8 by
    itself, so that its unit is one head. Raises ``PlanError`` for a number that is not a positive whole number, and for
    a pattern that matches no group.
    """
    asked = _asked(groups, round_to)
    units = [
        lcm(*(number // gcd(number, m.multiplicity) for m in group.members)) if group.members else number
        for group, number in zip(groups, asked, strict=True)
    ]
    return np.array(units, dtype=np.int64)


def _asked(groups: Sequence[ChannelGroup], round_to: RoundTo) -> list[int]:
    if not isinstance(round_to, Mapping):
        check_count("round_to", round_to)
        return [round_to] * len(groups)
    names = [group.name for group in groups]
    for pattern, number in round_to.items():
        check_count("round_to", number)
        if not any(_names(pattern, name) for name in names):
            raise PlanError(
                f"expected round_to for groups of this program, but {pattern!r} names none; groups are called "
                f"{', '.join(names[:3])}; program.groups lists them"
            )
    return [_number_for(name, round_to) for name in names]


def _number_for(name: str, round_to: Mapping[str, int]) -> int:
    """Return the number for a group: that under its own name, otherwise that of the first pattern that matches."""
    found = [number for pattern, number in round_to.items() if _names(pattern, name)]
    return round_to.get(name, found[0] if found else 1)


def _names(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)
