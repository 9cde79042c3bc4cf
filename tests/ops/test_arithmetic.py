"""Sums, products and quotients: parameters among the operands, and operands that are neutral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, conv, identity_of, members, traced


def test_layer_scales_and_biases_of_their_own() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.c(x) * m.scale + m.shift)

    parts = {"scale": nn.Parameter(torch.ones(6, 1, 1)), "shift": nn.Parameter(torch.zeros(1, 6, 1, 1))}
    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2), **parts))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "scale[0]", "shift[1]", "d.weight[1]"}]


def test_a_parameter_that_divides_goes_along_and_is_not_masked() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.n(m.c(x) / m.scale))

    parts = {"c": conv(3, 6), "n": nn.BatchNorm2d(6), "d": conv(6, 2), "scale": nn.Parameter(torch.ones(6, 1, 1))}
    program = assert_slims(Function(forward, **parts))
    (member,) = (member for member in program.groups[0].members if member.tensor == "scale")
    assert (member.dim, member.roles) == (0, {"statistic"})


NEUTRAL: dict[str, Callable[..., torch.Tensor]] = {
    "aten.add.Tensor": lambda m, y: y + m.zeros,
    "aten.sub.Tensor": lambda m, y: y - m.zeros,
    "aten.mul.Tensor": lambda m, y: y * m.ones,
    "aten.div.Tensor": lambda m, y: y / m.ones,
}
OTHERS: dict[str, Callable[..., torch.Tensor]] = {
    "aten.add.Tensor": lambda m, y: y + m.ones,
    "aten.sub.Tensor": lambda m, y: y - m.ones,
    "aten.mul.Tensor": lambda m, y: y * m.zeros,
    "aten.div.Tensor": lambda m, y: y / m.twos,
}
PARTS = {"zeros": torch.zeros(6, 1, 1), "ones": torch.ones(6, 1, 1), "twos": torch.full((6, 1, 1), 2.0)}


def program_of(function: Callable[..., torch.Tensor]) -> Any:
    model = Function(lambda m, x: function(m, m.c(x)), c=conv(3, 6), **PARTS)
    program = traced(model)
    program.load_state_dict(PARTS, strict=False)  # which had been filled with random numbers
    return program


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_operand_leaves_the_other_as_a_copy(name: str) -> None:
    identity = identity_of(program_of(NEUTRAL[name]), name)
    assert identity is not None
    assert identity.copies


@pytest.mark.parametrize("name", OTHERS)
def test_other_operands_change_something(name: str) -> None:
    assert identity_of(program_of(OTHERS[name]), name) is None


def test_sums_and_products_may_be_written_either_way_but_no_difference() -> None:
    assert identity_of(program_of(lambda m, y: m.zeros + y), "aten.add.Tensor") is not None
    assert identity_of(program_of(lambda m, y: m.ones * y), "aten.mul.Tensor") is not None
    assert identity_of(program_of(lambda m, y: m.zeros - y), "aten.sub.Tensor") is None
    assert identity_of(program_of(lambda m, y: m.ones / y), "aten.div.Tensor") is None


def test_numbers_are_neutral_too() -> None:
    assert identity_of(program_of(lambda m, y: y + 0.0), "aten.add.Tensor") is not None
    assert identity_of(program_of(lambda m, y: y * 1), "aten.mul.Tensor") is not None
    assert identity_of(program_of(lambda m, y: torch.ops.aten.add.Scalar(y, 0)), "aten.add.Scalar") is not None
    assert identity_of(program_of(lambda m, y: y * 0.5), "aten.mul.Tensor") is None
