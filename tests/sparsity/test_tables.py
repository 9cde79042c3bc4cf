"""The tables of channels, of their places in tensors, and of the numbers that they are scored by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swdc.ir.groups import WRITES, Member
from swdc.sparsity.targets.structures import Part
from swdc.sparsity.targets.tables import Channels, Place, Readings


def member(tensor: str, indices: list[list[int]], dim: int = 0) -> Member:
    return Member(tensor, dim, np.array(indices), frozenset({WRITES}))


PARTS = [
    Part(3, 2, True, (member("a", [[0], [1]]), member("b", [[0], [1]])), ()),
    Part(1, 1, False, (member("b", [[2, 3]]),), ()),
]
"""Two channels of the fourth group, and one of the second that has two positions."""


def columns(place: Place) -> tuple[int, list[int], list[int]]:
    return place.dim, place.position.tolist(), place.channel.tolist()


def test_channels_are_numbered_through_segment_by_segment() -> None:
    channels = Channels.of(PARTS)
    assert len(channels) == 3
    assert channels.group.tolist() == [3, 3, 1]
    assert channels.segment.tolist() == [0, 0, 1]
    assert channels.by_gain.tolist() == [True, True, False]
    assert channels.starts.tolist() == [0, 2]
    assert channels.widths.tolist() == [2, 1]


@pytest.mark.parametrize("by_rank", [False, True])
def test_places_join_the_members_of_a_tensor_in_the_order_asked_for(by_rank: bool) -> None:
    places = Channels.of(PARTS).places((part.deciding for part in PARTS), by_rank)
    assert list(map(columns, places["a"])) == [(0, [0, 1], [0, 1])]
    joined = [(0, [2, 3, 0, 1], [2, 2, 0, 1])] if by_rank else [(0, [0, 1, 2, 3], [0, 1, 2, 2])]
    assert list(map(columns, places["b"])) == joined


def test_readings_stand_in_one_line_and_are_summed_for_each_channel() -> None:
    places = Channels.of(PARTS).places(part.deciding for part in PARTS)
    readings = Readings.of(places, {"a": torch.zeros(3, 5), "b": torch.zeros(4)})
    assert readings.length == 7
    assert readings.position.tolist() == [0, 1, 3, 4, 5, 6]
    assert readings.channel.tolist() == [0, 1, 0, 1, 2, 2]
    assert readings.counts.tolist() == [2, 2, 2]
    assert readings.sums(np.array([1.0, 2, 4, 8, 16, 32])).tolist() == [5, 10, 48]
    assert not readings.are_columns(3)


@pytest.mark.parametrize(("channel", "columns"), [([0, 1, 0, 1], True), ([0, 0, 1, 1], False)])
def test_a_line_is_a_matrix_if_it_repeats_all_channels_in_their_order(channel: list[int], columns: bool) -> None:
    assert Readings(np.arange(4), np.array(channel), 4).are_columns(2) is columns
