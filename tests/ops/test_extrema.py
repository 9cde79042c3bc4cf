"""Extrema: zero stays among the values, and a place is the number of a channel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from swdc.ops import statistics
from tests.support import Function, assert_equal, assert_exact, certified, conv, frozen_at, image, plan_of, traced


@pytest.mark.parametrize("sign", [1, -1])
def test_an_extremum_of_values_of_one_sign(sign: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = -sign * torch.exp(m.c(x)) * m.c(x).square()  # nowhere zero but in a dead channel
        return (y.amax(1) if sign > 0 else y.amin(1)) + y.sum(1)

    assert_exact(Function(forward, c=conv(3, 6)))


def test_the_place_of_a_maximum_holds_the_channels() -> None:
    program = traced(Function(lambda m, x: torch.tanh(m.c(x)).max(1)[1].double(), c=conv(3, 6)))
    assert program.groups == ()
    assert frozen_at(program, "c.weight", 0)[0].indices.tolist() == list(range(6))


def test_the_place_of_a_maximum_along_positions_passes_the_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        values, places = torch.relu(m.c(x)).max(3)
        return (values * places).sum(1)

    assert [group.width for group in assert_exact(Function(forward, c=conv(3, 6))).groups] == [6]


@pytest.mark.parametrize("name", ["max", "min"])
def test_the_extremum_of_a_slim_program_knows_which_of_the_two_it_is(name: str) -> None:
    program = traced(Function(lambda m, x: getattr(torch.tanh(m.c(x)), name)(1)[0], c=conv(3, 6)), image(2, 3, 4, 4))
    _, slim = certified(program, plan_of(program, {"c": [1, 4]}))
    (found,) = (m for m in slim.leaves.values() if isinstance(m, statistics.ExtremumAndPlace))
    assert found.largest is (name == "max")


def test_the_gradient_of_an_extremum_at_a_tie_with_removed_channels() -> None:
    """It is shared between all that are equal: a token of zeros is as large as the channels that are gone."""

    x = torch.randn(5, 3, dtype=torch.float64)
    x[:3] = 0
    program = traced(Function(lambda m, x: m.a(x).amax(1), a=nn.Linear(3, 6, bias=False)), x)
    gradients = []
    for each in certified(program, plan_of(program, {"a": [0, 2, 5]})):
        given = x.clone().requires_grad_()
        each.train()(given).sum().backward()
        gradients.append(given.grad)
    assert_equal(*gradients)
    assert gradients[0].abs().sum(1).min() > 0
