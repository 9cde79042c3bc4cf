"""Distances and similarities: zero channels add nothing to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, image, members, reason_at, traced

TOGETHER = {"a.weight[0]", "a.bias[0]", "c.weight[0]", "c.bias[0]"}


def compared(function: Any, activation: Any = torch.tanh) -> Function:
    """A function of two values of (batch, 4, 8)."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return function(activation(m.a(x)), activation(m.c(x)))

    return Function(forward, a=nn.Linear(5, 8), c=nn.Linear(5, 8))


@pytest.mark.parametrize(
    "function",
    [
        torch.cdist,
        lambda y, z: torch.cdist(y, z, p=1.0),
        lambda y, z: torch.cdist(y, z, p=float("inf")),
        lambda y, z: torch.cdist(y, z[:, :3]).softmax(-1),
        lambda y, z: nn.functional.cosine_similarity(y, z, dim=-1),
        lambda y, z: nn.functional.cosine_similarity(y.mT, z.mT, dim=1),
        lambda y, z: nn.functional.cosine_similarity(y[:, :, None], z[:, None], dim=-1),
    ],
)
def test_channels_of_a_distance_go_together(function: Any) -> None:
    assert members(assert_slims(compared(function), image(2, 4, 5))) == [TOGETHER]


def test_equal_constants_are_no_distance_apart() -> None:
    assert members(assert_slims(compared(torch.cdist, torch.sigmoid), image(2, 4, 5))) == [TOGETHER]


def test_constants_count_for_an_angle() -> None:
    model = compared(lambda y, z: nn.functional.cosine_similarity(y, z, dim=-1), torch.sigmoid)
    assert "sums over the channel" in reason_at(traced(model, image(2, 4, 5)), "a.weight", 0)


def test_one_value_for_all_channels_has_a_norm_that_counts_them() -> None:
    model = compared(lambda y, z: nn.functional.cosine_similarity(y, z.sum(-1, keepdim=True), dim=-1))
    assert "sums over the channel" in reason_at(traced(model, image(2, 4, 5)), "a.weight", 0)


def test_rows_that_hold_channels_pass() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x)).mT
        return m.b((torch.cdist(y, y[..., :1, :]) * y[..., :1]).mT)

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(2, 4, 5))
    assert sum(group.width for group in program.groups) == 7  # the first is taken by its number
