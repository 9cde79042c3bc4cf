"""Units of channels: a group keeps a multiple of its unit, because kernels compute channels in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd, lcm
from typing import TypeAlias

import numpy as np

from swdc.ir.groups import ChannelGroup, Ids
from swdc.sparsity.arguments import check_count
from swdc.sparsity.planning.group_patterns import for_groups

RoundTo: TypeAlias = int | Mapping[str, int]
"""One number for all groups, or numbers by names of groups or shell patterns; 1 for groups that match none."""


def plain(round_to: RoundTo) -> RoundTo:
    """Return the numbers as plain data, for the settings of plans and methods."""
    return {name: int(unit) for name, unit in round_to.items()} if isinstance(round_to, Mapping) else round_to


def units_of(groups: Sequence[ChannelGroup], round_to: RoundTo) -> Ids:
    """Return for each group the number of channels that are kept or removed together.

    The sizes of the group's tensors become multiples of the given number. A head of 64 positions is a multiple of 8 by
    itself, so that its unit is one head. Raises ``PlanError`` for a number that is not a positive whole number, and for
    a pattern that matches no group.
    """
    asked = for_groups("round_to", groups, round_to, 1, check_count)
    units = [
        lcm(*(number // gcd(number, m.multiplicity) for m in group.members)) if group.members else number
        for group, number in zip(groups, asked, strict=True)
    ]
    return np.array(units, dtype=np.int64)
