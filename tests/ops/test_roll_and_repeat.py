"""Rolling, flipping, rotating and tiling only move labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support import (
    assert_slims,
    certified,
    image,
    plan_of,
    reason_at,
    traced,
    vector_net,
)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.flip(-1) + y,
        lambda y: y.flip([0, 1]),
        lambda y: y.fliplr(),
        lambda y: y.flipud(),
        lambda y: y.roll(4, 1) * y + y,
        lambda y: y.roll((1, -2), (0, -1)),
        lambda y: y.roll(11, -1),
        lambda y: y.roll(1, 0),
        lambda y: y.rot90(2, [0, 1]),
        lambda y: y.rot90(1, [0, 1]).mT,
        lambda y: y.rot90(3, [1, 0]).mT + y,
        lambda y: torch.sigmoid(y).flip(1).roll(2, 1),
    ],
)
def test_channels_in_another_order(function: Any) -> None:
    assert_slims(vector_net(function), image(3, 5))


@pytest.mark.parametrize(
    ("function", "width"),
    [
        (lambda y: y.tile(2), 16),
        (lambda y: y.tile((2, 1, 3)).sum(0), 24),
        (lambda y: y.repeat_interleave(3, -1), 24),
        (lambda y: y.repeat_interleave(2, 0), 8),
        (lambda y: y.sum(0).repeat_interleave(2), 16),
        (lambda y: y.repeat_interleave(2, 1, output_size=16), 16),
        (lambda y: y[:, None].tile(4, 1).repeat_interleave(torch.tensor([2, 1, 3, 1]), 1, output_size=7).sum(1), 8),
    ],
)
def test_channels_several_times_over(function: Any, width: int) -> None:
    program = assert_slims(vector_net(function, width), image(3, 5))
    assert [group.width for group in program.groups] == [8]


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.roll(1).view(-1, 8),
        lambda y: y.roll((1, 2), (1, 1)),
    ],
)
def test_channels_moved_as_the_data_says_are_frozen(function: Any) -> None:
    program = traced(vector_net(function), image(3, 5))
    assert "moves channels between dimensions, or in a way that depends on the data" in reason_at(
        program, "a.weight", 0
    )


def test_the_shift_counts_what_is_left() -> None:
    program = traced(vector_net(lambda y: y.roll(3, 1) * torch.arange(1.0, 2.0).item()), image(3, 5))
    _, slim = certified(program, plan_of(program, {program.groups[0].name: [0, 1, 6, 7]}))
    assert [node.args[1] for node in slim.graph.nodes if "roll" in str(node.target)] == [[2]]


def test_channels_repeated_by_a_tensor_are_frozen() -> None:
    times = torch.tensor([2, 1, 3, 1, 1, 2, 1, 1])
    program = traced(vector_net(lambda y: y.repeat_interleave(times, 1, output_size=12), 12), image(3, 5))
    assert "works along this dimension" in reason_at(program, "a.weight", 0)
