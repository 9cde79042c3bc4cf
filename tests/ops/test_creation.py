"""Tensors that are made on the way, and arithmetic on sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import (
    Function,
    assert_slims,
    call_of,
    certified,
    image,
    members,
    operators,
    reason_at,
    traced,
)


@pytest.mark.parametrize(
    "filled",
    [
        lambda y: torch.zeros_like(y),
        lambda y: torch.ones_like(y),
        lambda y: torch.full_like(y, 0.5),
        lambda y: y.new_zeros(y.shape),
        lambda y: y.new_ones(y.shape[0], 8),
        lambda y: torch.zeros(8, dtype=y.dtype),
        lambda y: torch.full((8,), 2.0, dtype=y.dtype),
    ],
)
def test_tensors_made_on_the_way_shrink_too(filled: Any) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(y + filled(y))

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]


def test_positions_counted_by_arange_hold_no_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(y) * torch.arange(x.shape[1], dtype=x.dtype)[:, None]

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(2, 4, 5))
    assert "aten.arange.default" in operators(program)
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]


@pytest.mark.parametrize(
    "made",
    [
        lambda y: torch.eye(8, dtype=y.dtype)[0],
        lambda y: torch.linspace(0, 1, 8, dtype=y.dtype),
        lambda y: torch.meshgrid(torch.arange(2), torch.arange(8), indexing="ij")[1].to(y.dtype)[0],
        lambda y: torch.ops.aten.rand_like(y) * 0,
        lambda y: torch.randn(8, dtype=y.dtype) * 0,
    ],
)
def test_what_differs_from_index_to_index_freezes(made: Any) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(y + made(y))

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 5))
    assert not program.groups
    assert reason_at(program, "b.weight", 1)


def test_a_number_of_values_that_counts_channels_freezes_them() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(y) * y.numel()

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 5))
    if "aten.sym_numel.default" in operators(program):
        assert "counts positions" in reason_at(program, "a.weight", 0)
    else:
        certified(program)


def test_sizes_are_computed_from_sizes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        count = torch.sym_max(y.shape[0] * 2 // 3, 1)
        return m.b(y)[:count] * torch.sym_float(count) + y.new_full((1,), 0.5)

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]


def test_the_size_of_a_dimension_reads_nothing_else() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.a(x).reshape(x.shape[0], 2, 3)

    operator, call = call_of(traced(Function(forward, a=nn.Linear(5, 6)), image(2, 5)), "aten.sym_size.int")
    assert operator.asks_sizes(call, call["self"])


@pytest.mark.parametrize(("value", "dtype"), [(0.7, torch.int64), (2, torch.bool), (-1.9, torch.int8)])
def test_a_filling_has_the_type_that_is_asked_for(value: float, dtype: torch.dtype) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(torch.where(y > 0.1, y, torch.full_like(y, value, dtype=dtype)))

    assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5))
