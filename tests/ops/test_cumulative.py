"""Running sums, products and extrema along one dimension."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.support import Function, assert_exact, certified, conv, frozen_at, reason_at, traced


def test_a_running_sum_over_channels_does_not_see_zeros() -> None:
    def forward(m: Function, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(m.c(x))  # type: ignore[operator]
        return (y * y.cumsum(1)).sum(1)

    program = assert_exact(Function(forward, c=conv(3, 6)))
    assert set(certified(program)[1].leaves) == {"c"}


def test_a_running_sum_of_constants_holds_the_channels() -> None:
    program = traced(Function(lambda m, x: torch.sigmoid(m.c(x)).cumsum(1), c=conv(3, 6)))
    assert "not zero when dead" in reason_at(program, "c.weight", 0)


def test_channels_pass_a_running_sum_over_positions() -> None:
    model = Function(
        lambda m, x: m.d(m.n(torch.tanh(m.c(x)).cumsum(2).mean((2, 3)))),
        c=conv(3, 6), n=nn.BatchNorm1d(6), d=nn.Linear(6, 2),
    )  # fmt: skip
    assert [group.width for group in assert_exact(model).groups] == [6]


@pytest.mark.parametrize(
    "function",
    [lambda y: y.cumprod(1)[:, 2], lambda y: y.cummax(1)[0], lambda y: y.cummin(1)[0], lambda y: y.logcumsumexp(1)],
)
def test_other_running_statistics_over_channels_hold_them(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    program = traced(Function(lambda m, x: function(torch.tanh(m.c(x))), c=conv(3, 6)))
    assert program.groups == ()
    assert frozen_at(program, "c.weight", 0)[0].indices.tolist() == list(range(6))
