"""Deformable convolutions: offsets, masks, groups of either kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import DeformConv2d

import swdc
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    conv,
    image,
    members,
    plan_of,
    randomise,
    reason_at,
    traced,
)


def model(groups: int = 1, offsets: int = 1, masked: bool = True, activation: Any = torch.relu) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = activation(m.c(x))
        mask = torch.sigmoid(m.k(x)) if masked else None
        return m.d(torch.relu(m.r(y, m.o(y), mask)))

    return Function(
        forward, c=conv(3, 12), o=conv(12, 18 * offsets), k=conv(3, 9 * offsets),
        r=DeformConv2d(12, 8, 3, padding=1, groups=groups), d=conv(8, 2),
    )  # fmt: skip


@pytest.mark.parametrize("masked", [True, False])
def test_it_is_cut_as_a_convolution(masked: bool) -> None:
    program = assert_slims(model(masked=masked))
    assert members(program) == [
        {"c.weight[0]", "c.bias[0]", "o.weight[1]", "r.weight[1]"},
        {"r.weight[0]", "r.bias[0]", "d.weight[1]"},
    ]
    assert "says where to read" in reason_at(program, "o.weight", 0)
    assert not masked or "says where to read" in reason_at(program, "k.weight", 0)


@pytest.mark.parametrize(
    ("groups", "offsets", "widths"), [(1, 2, [6, 8]), (1, 12, [8]), (4, 1, [4]), (2, 2, [6, 4]), (2, 3, [2, 4])]
)
def test_groups_of_filters_and_of_offsets(groups: int, offsets: int, widths: list[int]) -> None:
    program = assert_slims(model(groups, offsets))
    assert [group.width for group in program.groups] == widths
    if groups == 4:
        _, slim = certified(program, plan_of(program, {"c": [1, 3]}))
        node = next(n for n in slim.graph.nodes if "deform" in str(n.target))
        assert node.args[11:13] == (2, 1)


def test_a_constant_is_not_folded() -> None:
    assert "its dead value" in reason_at(traced(model(activation=torch.sigmoid)), "c.weight", 0)


def test_costs_by_hand() -> None:
    program = traced(model(groups=2, masked=False))
    others = 3 * 12 * 9 + 12 * 18 * 9 + 8 * 2 * 9
    assert swdc.count(program, "macs").operations == 64 * (others + 6 * 8 * 9)


def test_channels_keep_their_order_beside_a_sum_of_free_sides() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.n(m.c(x)))
        z = m.r(y, m.o(y))
        return m.d(torch.relu(m.s(z + y)))

    parts = {"c": conv(3, 8), "n": nn.BatchNorm2d(8), "o": conv(8, 18), "s": nn.BatchNorm2d(8), "d": conv(8, 2)}
    network = Function(forward, r=DeformConv2d(8, 8, 3, padding=1), **parts)
    program = swdc.trace(randomise(network).eval(), image(2, 3, 6, 6), policy="free")
    assert len(program.groups) > 1
    certified(program)


@pytest.mark.parametrize("offsets", [1, 2])
def test_constants_that_it_reads_are_carried_by_none(offsets: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.n(m.c(x)))
        return m.d(m.r(y, m.o(x), torch.sigmoid(m.k(x))))

    network = Function(
        forward, c=conv(3, 8), n=nn.BatchNorm2d(8), o=conv(3, 18 * offsets), k=conv(3, 9 * offsets),
        r=DeformConv2d(8, 6, 3, padding=1), d=conv(6, 2),
    )  # fmt: skip
    norm = randomise(network).eval().n
    with torch.no_grad():
        norm.weight[2:7] = 0
        norm.bias[2:7] = torch.tensor([0.5, 0.3, 0.2, 0.7, -1.0])  # one is zero after the ReLU
    program = swdc.trace(network, image(2, 3, 6, 6))
    deployed = swdc.deploy(program)
    assert deployed.get_parameter("c.weight").shape[0] == (7 if offsets == 1 else 8)
    x = image(3, 3, 6, 6, seed=2)
    assert_same(program(x), deployed(x))
