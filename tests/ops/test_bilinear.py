"""Bilinear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import swdc
from tests.support import Function, assert_slims, image, members, reason_at, traced


def model(activation: Any = torch.tanh) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(m.r(activation(m.a(x)), m.b(x))))

    return Function(forward, a=nn.Linear(5, 4), b=nn.Linear(5, 6), r=nn.Bilinear(4, 6, 7), d=nn.Linear(7, 2))


def test_both_inputs_and_the_filters() -> None:
    program = assert_slims(model(), image(2, 5))
    assert members(program) == [
        {"a.weight[0]", "a.bias[0]", "r.weight[1]"},
        {"b.weight[0]", "b.bias[0]", "r.weight[2]"},
        {"r.weight[0]", "r.bias[0]", "d.weight[1]"},
    ]


def test_positions_pass() -> None:
    assert len(assert_slims(model(), image(2, 3, 5)).groups) == 3


def test_a_constant_is_not_folded() -> None:
    assert "its dead value" in reason_at(traced(model(torch.sigmoid), image(2, 5)), "a.weight", 0)


def test_costs_by_hand() -> None:
    program = traced(model(), image(2, 3, 5))
    dense = 5 * 4 + 5 * 6 + 7 * 2
    assert swdc.count(program, "macs").operations == 3 * (dense + 4 * 6 * 7)
    assert swdc.count(program, "paper").operations == 3 * (dense + 4 * 6 * 7 + 4 + 6 + 7 + 2)
