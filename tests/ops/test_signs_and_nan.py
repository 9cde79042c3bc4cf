"""Zeros of either sign, and NaN where an infinite value meets a mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_same, assert_slims, certified, image, reason_at, traced

Activation = Callable[[torch.Tensor], torch.Tensor]

OF_SIGNS: dict[str, Activation] = {
    "signbit": lambda x: torch.signbit(x).double(),
    "copysign": lambda x: torch.copysign(torch.ones_like(x), x),
    "atan2": lambda x: torch.atan2(x, -1 - x.abs()),
    "atan2 of zeros": lambda x: torch.atan2(x, x),
    "complex": lambda x: (-torch.complex(x, x)).angle(),
    "complex root": lambda x: torch.complex(x - 4, x).sqrt().imag,
}


@pytest.mark.parametrize("name", OF_SIGNS)
def test_the_sign_of_a_dead_zero_is_not_known(name: str) -> None:
    model = Function(lambda m, x: m.b(OF_SIGNS[name](m.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    assert "its dead value" in reason_at(traced(model, image(4, 5)), "a.weight", 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.atan2(x, x * x + 1),
        lambda x: torch.copysign(x, x * x + 1),
        lambda x: (x.abs() + 1).signbit().double() + x,
        lambda x: x.angle() * 0.1 + x,
        lambda x: torch.complex(x, x * 2).abs(),
        lambda x: torch.complex(x, x * 2).sin().real,
    ],
)
def test_functions_of_signs_that_zeros_of_both_signs_agree_on(function: Activation) -> None:
    assert_slims(
        Function(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5), seeds=(0,)
    )


OF_NAN: dict[str, Activation] = {
    "nan_to_num": lambda x: torch.nan_to_num(x, nan=1.0),
    "isnan": lambda x: x.isnan().double(),
    "isfinite": lambda x: x.isfinite().double(),
    "fmax": lambda x: torch.fmax(x, x + 1),
}


@pytest.mark.parametrize("name", OF_NAN)
def test_what_makes_a_number_of_nan_is_frozen(name: str) -> None:
    """The mask makes NaN of an infinite value, the slim program has no such channel."""
    model = Function(lambda m, x: m.b(OF_NAN[name](m.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    assert "its dead value" in reason_at(traced(model, image(4, 5)), "a.weight", 0)


def test_nan_that_becomes_the_dead_value_itself() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.nan_to_num(m.a(x)))

    masked, slim = certified(traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5)))
    x = torch.full((2, 5), torch.inf, dtype=torch.float64)
    assert_same(masked(x).clamp(-1, 1), slim(x).clamp(-1, 1))
