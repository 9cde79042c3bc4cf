"""Transposed convolutions: plain, strided, grouped both ways, with computed weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from tests.support import (
    Function,
    assert_slims,
    certified,
    conv,
    group_with,
    image,
    members,
    operators,
    plan_of,
    reason_at,
    traced,
)

LAYERS: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def test_filters_are_the_second_dimension() -> None:
    up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1)
    program = assert_slims(nn.Sequential(conv(3, 8), nn.ReLU(), up, nn.ReLU(), conv(6, 2)))
    assert members(program) == [
        {"0.weight[0]", "0.bias[0]", "2.weight[0]"},
        {"2.weight[1]", "2.bias[0]", "4.weight[1]"},
    ]
    _, slim = certified(program, plan_of(program, {"0": [1, 5], "2[1]": [0, 2, 3]}))
    cut = slim.get_submodule("2")
    assert isinstance(cut, nn.ConvTranspose2d)
    assert (cut.in_channels, cut.out_channels, cut.stride, cut.output_padding) == (2, 3, (2, 2), (1, 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_all_ranks(rank: int) -> None:
    first, layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1], LAYERS[rank]
    model = nn.Sequential(
        first(3, 6, 1), nn.GELU(), layer(6, 8, 3, dilation=2, bias=False), nn.GELU(), layer(8, 8, 2, 2, groups=8),
        nn.GELU(), layer(8, 2, 3, padding=1),
    )  # fmt: skip
    program = assert_slims(model, image(1, 3, *[3] * rank))
    assert [group.width for group in program.groups] == [6, 8]
    assert operators(program)[2] == layer.__name__


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "widths"),
    [
        (12, 12, 12, [12]),
        (12, 12, 36, [12]),
        (6, 12, 24, [6]),
        (2, 12, 12, [6, 6]),  # the same channels of both groups
        (3, 12, 24, [4, 8]),
    ],
)
def test_groups(groups: int, inputs: int, outputs: int, widths: list[int]) -> None:
    up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, groups=groups)
    program = assert_slims(nn.Sequential(conv(3, inputs), nn.ReLU(), up, nn.ReLU(), conv(outputs, 2)))
    assert [group.width for group in program.groups] == widths
    first = group_with(program, "0.weight[0]")
    _, slim = certified(program, plan_of(program, {first.name: [0, first.width - 1]}))
    cut: Any = slim.get_submodule("2")
    left = 2 if len(widths) == 1 else groups
    assert (cut.groups, cut.in_channels) == (left, 2 * inputs // first.width)


def test_whole_groups_are_zeroed_by_their_own_weight() -> None:
    up = nn.ConvTranspose2d(4, 8, 2, groups=4)
    program = assert_slims(nn.Sequential(conv(3, 4), nn.Sigmoid(), up, nn.ReLU(), conv(8, 2)))
    assert {m.tensor for m in program.groups[0].with_role("writes")} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_constant_is_not_folded() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.Sigmoid(), nn.ConvTranspose2d(8, 6, 3), nn.ReLU(), conv(6, 2)))
    assert "its dead value" in reason_at(program, "0.weight", 0)


def test_a_constant_meets_zeros_in_the_weight_of_groups() -> None:
    up = nn.ConvTranspose2d(8, 6, 3, groups=2)
    program = assert_slims(nn.Sequential(conv(3, 8), nn.Sigmoid(), up, nn.ReLU(), conv(6, 2)))
    assert [group.width for group in program.groups] == [4, 3]


def test_frozen_inputs_leave_the_filters_of_each_group() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(m.c(x)))

    program = assert_slims(Function(forward, c=nn.ConvTranspose2d(3, 12, 2, groups=3), d=conv(12, 2)))
    assert members(program) == [{"c.weight[1]", "c.bias[0]", "d.weight[1]"}]


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_computed_weight_is_cut_at_its_source(groups: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(torch.relu(m.c(x)), m.w * 0.5, m.b, stride=2, groups=groups)
        return m.d(torch.relu(y))

    parts = {"w": nn.Parameter(torch.randn(8, 8 // groups, 3, 3)), "b": nn.Parameter(torch.randn(8))}
    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2), **parts))
    assert "c.weight[0]" in members(program)[0]
    assert len(program.groups) == (1 if groups == 8 else 2)


def test_a_computed_weight_that_is_not_zero_when_dead_freezes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(F.conv_transpose2d(torch.relu(m.c(x)), m.w + 1, m.b, groups=2)))

    parts = {"w": nn.Parameter(torch.randn(8, 4, 3, 3)), "b": nn.Parameter(torch.randn(8))}
    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2), **parts))
    assert [group.name for group in program.groups] == ["c"]
    assert "its dead value" in reason_at(program, "w", 1)


def test_an_output_size_is_kept() -> None:
    model = Function(
        lambda m, x: m.d(torch.relu(m.c(x, output_size=[16, 15]))), c=nn.ConvTranspose2d(3, 6, 3, 2, 1), d=conv(6, 2)
    )
    assert_slims(model)


def test_without_a_batch() -> None:
    with pytest.warns(UserWarning, match="the leading size of the inputs is fixed to 3"):
        program = traced(nn.Sequential(conv(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 2, 2)), image(3, 8, 8))
    certified(program)
    assert [group.width for group in program.groups] == [8]


def test_costs_by_hand() -> None:
    program = traced(nn.Sequential(nn.ConvTranspose2d(3, 8, 2, stride=2), nn.ConvTranspose2d(8, 8, 1, groups=4)))
    assert swdc.count(program, "paper").operations == 3 * 8 * 4 * 64 + 8 * 2 * 256
    assert swdc.count(program, "reference").operations == 3 * 8 * 4 * 256 + 8 * 2 * 256
    assert swdc.count(program, "macs").operations == 3 * 8 * 4 * 64 + 8 * 2 * 256
