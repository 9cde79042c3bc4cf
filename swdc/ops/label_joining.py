"""Values that are combined: their labels are joined, and the dead values on which they agree are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import Ids


def couple_pair(call: Call, channels: Channels, one: Ids | None, other: Ids | None) -> Ids | None:
    """Join the labels of two dimensions, if any of them holds channels."""
    return None if one is None and other is None else channels.join(one, other, call)


def either(one: Dead, other: Dead) -> Dead:
    """Return the dead value of a result taken from either of two values: known if they agree."""
    if np.ndim(one) and np.ndim(other) and np.shape(one) != np.shape(other):
        return UNKNOWN
    a, b = np.broadcast_arrays(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))
    result = np.where(a == b, a, UNKNOWN)
    return float(result) if result.ndim == 0 else result


def agreeing(dead: Sequence[Sequence[Dead]]) -> list[Dead]:
    """Return the dead values along each dimension of several combined values: known if all agree."""
    result = list(dead[0])
    for other in dead[1:]:
        result = [either(a, b) for a, b in zip(result, other, strict=True)]
    return result
