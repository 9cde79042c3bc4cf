"""Channels in blocks."""

from __future__ import annotations

import numpy as np

from swdc.channels.dead_values import UNKNOWN
from swdc.ops.block_labels import merged_dead, spread, spread_dead


def test_labels_are_repeated_for_every_place() -> None:
    labels = spread(np.array([3, 5]), 3)
    assert labels is not None
    assert labels.tolist() == [3, 3, 3, 5, 5, 5]
    assert spread(None, 3) is None


def test_dead_values_are_repeated_and_merged() -> None:
    assert spread_dead(0.5, 4) == 0.5
    assert np.array_equal(spread_dead(np.array([0.0, 0.5]), 2), [0, 0, 0.5, 0.5])
    assert merged_dead(0.5, 4) == 0.5
    assert np.array_equal(merged_dead(np.array([0.0, 0, 0.5, 0.5, 0, 1]), 2), [0, 0.5, UNKNOWN], equal_nan=True)
    assert np.isnan(merged_dead(np.array([UNKNOWN, UNKNOWN]), 2)).all()  # unknown is not the same as unknown
