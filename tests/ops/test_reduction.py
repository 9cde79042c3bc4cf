"""Sums, means and extrema over positions let channels go; over channels, zeros keep their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from swdc import statistics
from tests.support import (
    Function,
    assert_exact,
    assert_slims,
    certified,
    conv,
    image,
    members,
    plan_of,
    reason_at,
    traced,
)

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


@pytest.mark.parametrize("reduce", [lambda y: y.amax(1), lambda y: y.amin((1, 2))])
def test_other_statistics_over_channels_hold_them(reduce: Reduce) -> None:
    program = traced(Function(lambda m, x: reduce(torch.relu(m.c(x))), c=conv(3, 6)))
    assert "a statistic over the channels" in reason_at(program, "c.weight", 0)


OVER_CHANNELS: dict[str, Reduce] = {
    "mean": lambda y: y.mean(1),
    "of all": lambda y: y.mean(),
    "kept": lambda y: (y * y.mean((1, 3), keepdim=True)).sum(1),
    "negative": lambda y: y.mean((-3, 0)),
}


@pytest.mark.parametrize("name", OVER_CHANNELS)
def test_statistics_over_channels_keep_their_divisor(name: str) -> None:
    program = assert_exact(
        Function(lambda m, x: OVER_CHANNELS[name](torch.relu(m.c(x))), c=conv(3, 6)), image(2, 3, 4, 4)
    )
    _, slim = certified(program, plan_of(program, {"c": [1, 2]}))
    assert [m.widths[1] for m in slim.leaves.values() if isinstance(m, statistics.Mean)] == [6]


def test_a_mean_over_two_dimensions_of_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        table = torch.tanh(m.rows.unsqueeze(1) * m.columns)
        return x * table.mean((0, 1)) + m.d(table.mean(0, keepdim=True))

    parts = {"rows": nn.Parameter(torch.randn(4)), "columns": nn.Parameter(torch.randn(5))}
    program = assert_exact(Function(forward, d=nn.Linear(5, 1), **parts), image(2, 1))
    assert {group.width for group in program.groups} == {4, 5}


def test_means_of_other_types_and_of_other_constants_hold_their_channels() -> None:
    parts = {"c": conv(3, 6)}
    typed = traced(Function(lambda m, x: torch.relu(m.c(x)).mean(1, dtype=torch.float64), **parts))
    assert "a statistic in a type of its own" in reason_at(typed, "c.weight", 0)
    constant = traced(Function(lambda m, x: torch.sigmoid(m.c(x)).mean(1), **parts))
    assert "sums over the channel" in reason_at(constant, "c.weight", 0)


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
