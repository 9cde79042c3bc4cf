"""Sums, means and extrema over positions let channels go; over channels, only a sum of zeros does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, conv, image, members, reason_at, traced

Reduce = Callable[[torch.Tensor], torch.Tensor]

OVER_POSITIONS: dict[str, Reduce] = {
    "mean": lambda y: y.mean((2, 3)),
    "negative": lambda y: y.mean((-1, -2)),
    "kept": lambda y: y.mean((2, 3), keepdim=True).flatten(1),
    "one by one": lambda y: y.mean(3).mean(2),
    "sum": lambda y: y.sum((2, 3)) / 64,
    "maximum": lambda y: y.amax((2, 3)),
    "minimum": lambda y: y.amin((2, 3)),
}


@pytest.mark.parametrize("name", OVER_POSITIONS)
def test_channels_pass(name: str) -> None:
    model = Function(lambda m, x: m.d(OVER_POSITIONS[name](torch.tanh(m.c(x)))), c=conv(3, 6), d=nn.Linear(6, 2))
    program = assert_slims(model)
    assert [group.width for group in program.groups] == [6]


@pytest.mark.parametrize("name", ["mean", "kept", "one by one", "maximum", "minimum"])
def test_a_mean_of_a_constant_is_that_constant(name: str) -> None:
    model = Function(lambda m, x: m.d(OVER_POSITIONS[name](torch.sigmoid(m.c(x)))), c=conv(3, 6), d=nn.Linear(6, 2))
    program = assert_slims(model)
    assert program.coupling.constants


def test_a_sum_of_a_constant_is_not_followed() -> None:
    program = traced(Function(lambda m, x: m.d(torch.sigmoid(m.c(x)).sum((2, 3))), c=conv(3, 6), d=nn.Linear(6, 2)))
    assert "its dead value" in reason_at(program, "c.weight", 0)


def test_a_sum_over_channels_ends_them() -> None:
    program = assert_slims(Function(lambda m, x: torch.relu(m.c(x)).sum(1), c=conv(3, 6)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]"}]
    held = traced(Function(lambda m, x: torch.sigmoid(m.c(x)).sum(1), c=conv(3, 6)))
    assert "sums over the channel" in reason_at(held, "c.weight", 0)


@pytest.mark.parametrize(
    "reduce", [lambda y: y.mean(1), lambda y: y.amax(1), lambda y: y.mean(), lambda y: y.amin((1, 2))]
)
def test_other_statistics_over_channels_hold_them(reduce: Reduce) -> None:
    program = traced(Function(lambda m, x: reduce(torch.relu(m.c(x))), c=conv(3, 6)))
    assert "a statistic over the channels" in reason_at(program, "c.weight", 0)


def test_a_penalty_on_the_weights_beside_the_output() -> None:
    def forward(m: Function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        penalty = (m.c.weight**2).sum()  # type: ignore[union-attr, operator]
        return m.d(torch.relu(m.c(x))), penalty  # type: ignore[operator]

    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2)))
    assert [group.name for group in program.groups] == ["c"]
    assert "works along this dimension" in reason_at(program, "c.weight", 2)


def test_everything_at_once() -> None:
    program = assert_slims(
        Function(lambda m, x: torch.relu(m.b(torch.relu(m.a(x)))).sum(), a=conv(3, 6), b=conv(6, 4)), image(2, 3, 4, 4)
    )
    assert [group.width for group in program.groups] == [6, 4]
