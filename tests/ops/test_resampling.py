"""Resampling: interpolation, grids, pixel and channel shuffles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import (
    Function,
    assert_slims,
    certified,
    conv,
    image,
    members,
    plan_of,
    reason_at,
    traced,
)

aten = torch.ops.aten


def between(function: Any, read: int = 6, activation: Any = torch.relu, **parts: Any) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(function(activation(m.c(x))))

    return Function(forward, c=conv(3, 6), d=conv(read, 2, 1), **parts)


@pytest.mark.parametrize(
    ("mode", "antialias"),
    [
        ("nearest", False), ("nearest-exact", False), ("bilinear", False), ("bicubic", False), ("area", False),
        ("bilinear", True), ("bicubic", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [{"scale_factor": 2}, {"size": (5, 7)}])
def test_images(mode: str, antialias: bool, size: dict[str, Any]) -> None:
    program = assert_slims(between(lambda y: F.interpolate(y, mode=mode, antialias=antialias, **size)), seeds=[0])
    assert [group.width for group in program.groups] == [6]


@pytest.mark.parametrize(
    ("mode", "rank"), [("nearest", 1), ("linear", 1), ("nearest", 3), ("nearest-exact", 3), ("trilinear", 3)]
)
def test_other_ranks(mode: str, rank: int) -> None:
    layer: Any = {1: nn.Conv1d, 3: nn.Conv3d}[rank]
    model = nn.Sequential(layer(3, 6, 1), nn.ReLU(), nn.Upsample(scale_factor=2, mode=mode), layer(6, 2, 1))
    assert_slims(model, image(1, 3, *[4] * rank), seeds=[0])


@pytest.mark.parametrize(
    "function",
    [
        lambda y: aten.upsample_nearest2d.default(y, [16, 16]),
        lambda y: aten.upsample_bilinear2d.default(y, [16, 16], False),
        lambda y: aten._upsample_bicubic2d_aa.default(y, [5, 5], False),
    ],
)
def test_overloads_with_sizes(function: Any) -> None:
    assert_slims(between(function), seeds=[0])


def test_a_constant_survives_interpolation() -> None:
    assert_slims(between(lambda y: F.interpolate(y, scale_factor=2, mode="bicubic"), activation=torch.sigmoid))


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
def test_a_grid_that_is_learnt(outside: str) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(m.theta(x.mean((2, 3))).view(-1, 2, 3), [x.shape[0], 6, 5, 5], align_corners=False)
        return m.d(F.grid_sample(torch.relu(m.c(x)), grid, padding_mode=outside, align_corners=False))

    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2), theta=nn.Linear(3, 6)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "d.weight[1]"}]
    assert "aten" in reason_at(program, "theta.weight", 0)


@pytest.mark.parametrize(("outside", "known"), [("zeros", False), ("border", True)])
def test_a_constant_under_a_grid(outside: str, known: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.grid_sample(torch.sigmoid(m.c(x)), m.grid.expand(x.shape[0], -1, -1, -1), padding_mode=outside))

    model = Function(forward, c=conv(3, 6), d=conv(6, 2, 1), grid=torch.randn(1, 4, 4, 2))
    if known:
        assert_slims(model)
    else:
        assert "its dead value" in reason_at(traced(model), "c.weight", 0)


def test_channels_of_a_block_become_positions_together() -> None:
    model = nn.Sequential(conv(3, 24), nn.ReLU(), nn.PixelShuffle(2), conv(6, 2))
    program = assert_slims(model)
    assert program.groups[0].width == 6
    assert program.groups[0].members[0].indices[1].tolist() == [4, 5, 6, 7]
    _, slim = certified(program, plan_of(program, {"0": [1, 4]}))
    assert slim.get_parameter("0.weight").shape[0] == 8


def test_positions_of_a_block_become_channels_together() -> None:
    program = assert_slims(nn.Sequential(conv(3, 6), nn.ReLU(), nn.PixelUnshuffle(2), conv(24, 2, 1)))
    assert [group.width for group in program.groups] == [6]
    assert program.groups[0].members[-1].multiplicity == 4


def test_there_and_back() -> None:
    model = nn.Sequential(conv(3, 24), nn.PixelShuffle(2), nn.ReLU(), nn.PixelUnshuffle(2), conv(24, 2, 1))
    assert [group.width for group in assert_slims(model).groups] == [6]


def test_a_single_channel_cannot_go() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.PixelShuffle(2), nn.ReLU(), conv(1, 2)))
    assert "become a single one" in reason_at(program, "0.weight", 0)


def test_a_constant_block() -> None:
    assert_slims(nn.Sequential(conv(3, 8), nn.Sigmoid(), nn.PixelShuffle(2), conv(2, 2, 1)))
    assert_slims(nn.Sequential(conv(3, 4), nn.Sigmoid(), nn.PixelUnshuffle(2), conv(16, 2, 1)))


def test_a_block_of_different_constants_is_none() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x)
        return m.d(F.pixel_shuffle(torch.cat([torch.sigmoid(y), y.exp()], 1)[:, m.order], 2))

    model = Function(forward, c=conv(3, 4), d=conv(2, 2, 1), order=torch.tensor([0, 4, 1, 5, 2, 6, 3, 7]))
    assert traced(model).groups == ()


@pytest.mark.parametrize(("groups", "left"), [(2, 6), (6, 6), (3, 4), (12, 12)])
def test_channels_that_are_dealt_out(groups: int, left: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(m.c(x))
        return m.d(aten.channel_shuffle.default(y, groups))

    program = assert_slims(Function(forward, c=conv(3, 12), d=conv(12, 2, 1)))
    assert [group.width for group in program.groups] == [left]


def test_constants_are_dealt_out_with_their_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x)
        return m.d(aten.channel_shuffle.default(torch.cat([torch.sigmoid(y), torch.exp(m.e(x))], 1), 2))

    assert len(assert_slims(Function(forward, c=conv(3, 6), e=conv(3, 6), d=conv(12, 2, 1))).groups) == 1
