"""Channels in blocks of equal size: an operator has one channel on one side for each block on the other."""

from __future__ import annotations

import numpy as np

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import Ids


def merged(call: Call, channels: Channels, labels: Ids | None, size: int) -> Ids | None:
    """Couple the channels of each block, and return one label for each block."""
    if labels is None or size == 1:
        return labels
    if len(labels) == size:
        channels.freeze(labels, call.reason("all channels become a single one"))
        return None
    columns = np.ascontiguousarray(labels.reshape(-1, size).T)
    for column in columns[1:]:
        channels.join(columns[0], column, call)
    first: Ids = columns[0]
    return first


def merged_dead(dead: Dead, size: int) -> Dead:
    """Return the dead value of each block: known if all its channels share it."""
    if isinstance(dead, float):
        return dead
    rows = dead.reshape(-1, size)
    return np.where((rows == rows[:, :1]).all(1), rows[:, 0], UNKNOWN)


def spread(labels: Ids | None, size: int) -> Ids | None:
    """Return the label of each channel, repeated for every place in its block."""
    return None if labels is None else np.repeat(labels, size)


def spread_dead(dead: Dead, size: int) -> Dead:
    """Return the dead value of each channel, repeated for every place in its block."""
    return dead if isinstance(dead, float) else np.repeat(dead, size)
