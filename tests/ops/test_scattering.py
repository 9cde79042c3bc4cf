"""Writing and adding up by index, as graph networks do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, certified, image, members, reason_at, traced

EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
TOGETHER = {"a.weight[0]", "a.bias[0]", "b.weight[1]"}


def network(function: Any, activation: Any = torch.relu, **parts: Any) -> Function:
    """Five nodes with 8 channels, a function of them and the edges between them, and a dense layer."""

    def forward(m: Any, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return m.b(function(activation(m.a(x)), edges[0], edges[1]))

    return Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2), **parts)


def scattered(reduce: str, include_self: bool) -> Any:
    def function(y: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        messages = y[source]
        index = target[:, None].expand_as(messages)
        return y.scatter_reduce(0, index, messages, reduce, include_self=include_self)

    return function


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin", "prod"])
def test_messages_reduced_at_nodes(reduce: str, include_self: bool) -> None:
    activation = torch.tanh if reduce in ("amin", "prod") else torch.relu  # zeros of a relu would decide over these
    program = assert_slims(network(scattered(reduce, include_self), activation), (image(5, 5), EDGES))
    assert members(program) == [TOGETHER]


@pytest.mark.parametrize(("reduce", "free"), [("sum", 0), ("prod", 0), ("mean", 1), ("amax", 1), ("amin", 1)])
def test_a_constant_that_is_not_zero_stays_under_some(reduce: str, free: int) -> None:
    program = traced(network(scattered(reduce, True), torch.sigmoid), (image(5, 5), EDGES))
    assert len(program.groups) == free
    for _ in program.groups:
        certified(program)


def test_products_into_ones_are_not_constant() -> None:
    def function(y: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        messages = y[source]
        return torch.ones_like(y).scatter_reduce(0, target[:, None].expand_as(messages), messages, "prod")

    program = traced(network(function), (image(5, 5), EDGES))
    assert "sums over the channel" in reason_at(program, "a.weight", 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda y, s, t: torch.zeros_like(y).scatter(0, t[:, None].expand_as(y[s]), y[s]),
        lambda y, s, t: y.scatter(0, t[:2, None].expand_as(y[:2]), 0.0),
        lambda y, s, t: y.scatter(0, t[:, None].expand_as(y[s]), y[s], reduce="multiply"),
        lambda y, s, t: y.scatter_add(-2, t[:, None].expand_as(y[s]), y[s]),
        lambda y, s, t: y.index_add(0, t, y[s], alpha=2),
        lambda y, s, t: y.index_copy(0, t, y[s]),
        lambda y, s, t: y.index_fill(0, t[:2], 0.0),
        lambda y, s, t: y.index_reduce(0, t, y[s], "amax"),
        lambda y, s, t: y.index_reduce(0, t, y[s], "prod", include_self=False),
        lambda y, s, t: y.index_put((t,), y[s]),
        lambda y, s, t: y.index_put((t,), y[s], accumulate=True),
        lambda y, s, t: y.index_put((y.new_tensor([1, 0, 0, 1, 1]).bool(),), torch.zeros_like(y[:1])),
        lambda y, s, t: torch.segment_reduce(y, "sum", lengths=torch.tensor([2, 0, 3]), axis=0)[t % 3],
    ],
)
def test_every_way_to_write_rows(function: Any) -> None:
    program = traced(network(function), (image(5, 5), EDGES))
    assert members(program) in ([TOGETHER], []), program.explain()
    for _ in program.groups:
        certified(program)
    if not program.groups:
        assert "sums over the channel" in reason_at(program, "a.weight", 0)


def test_values_written_to_single_places_are_frozen() -> None:
    def function(y: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return y.index_put((target, target), torch.zeros(()).to(y))

    program = traced(network(function), (image(5, 5), EDGES))
    assert "indexed by the data" in reason_at(program, "a.weight", 0)


def test_values_written_beside_two_indexed_dimensions() -> None:
    def forward(m: Any, x: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        y, z = torch.relu(m.a(x)).permute(1, 2, 0, 3), torch.relu(m.c(x))  # (4, 3, 2, 8)
        return m.b(torch.ops.aten.index_put(y, [row, None, row], z[0, :2]))

    parts = {"a": nn.Linear(5, 8), "c": nn.Linear(5, 8), "b": nn.Linear(8, 2)}
    program = assert_slims(Function(forward, **parts), (image(2, 4, 3, 5), torch.tensor([0, 1])[None]))
    assert members(program) == [TOGETHER | {"c.weight[0]", "c.bias[0]"}]


def test_channels_along_the_index_are_frozen() -> None:
    def function(y: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return y.index_add(1, torch.zeros(8, dtype=torch.long), y)

    assert "indexed by the data" in reason_at(traced(network(function), (image(5, 5), EDGES)), "a.weight", 0)


def test_means_of_segments_that_may_be_empty_are_not_constant() -> None:
    def function(y: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(y, "mean", lengths=torch.tensor([2, 3]), axis=0, initial=1.0)

    assert "sums over the channel" in reason_at(traced(network(function), (image(5, 5), EDGES)), "a.weight", 0)
