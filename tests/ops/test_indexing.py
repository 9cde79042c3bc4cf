"""Reading and adding up by index, and tensors that are made on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import (
    Function,
    assert_slims,
    certified,
    conv,
    frozen_at,
    image,
    members,
    operators,
    plan_of,
    reason_at,
    traced,
)

EDGES = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])


def test_a_selected_channel_stays_and_its_number_follows() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(m.c(x))
        return m.d(y), y[:, -2].mean((1, 2)), y[:, 3].amax(1)

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2)))
    held = {int(i) for frozen in frozen_at(program, "c.weight", 0) for i in frozen.indices}
    assert held == {3, 6}
    assert all("reads a channel by its number" in str(f.reason) for f in frozen_at(program, "c.weight", 0))
    _, slim = certified(program, plan_of(program, {program.groups[0].name: [0, 5]}))  # of 0 1 2 4 5 7: 0 and 7
    numbers = [n.args[2] for n in slim.graph.nodes if "select" in str(n.target) and n.args[1] == 1]
    assert numbers == [2, 1]


def test_a_selected_position_leaves_the_channels() -> None:
    program = assert_slims(
        Function(lambda m, x: m.b(torch.relu(m.a(x))[:, 0]), a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(2, 3, 5)
    )
    assert [group.width for group in program.groups] == [8]


def message_passing(m: Any, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    y = torch.relu(m.a(x))
    source, target = edges[0], edges[1]
    messages = {"index": lambda: y[source], "index_select": lambda: y.index_select(0, source)}[m.way]()
    zeros = messages.new_zeros(y.shape[0], messages.shape[1])
    return m.b(zeros.scatter_add(0, target[:, None].expand_as(messages), messages))


@pytest.mark.parametrize("way", ["index", "index_select"])
def test_messages_along_edges(way: str) -> None:
    model = Function(message_passing, a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    model.way = way
    program = assert_slims(model, (image(5, 6), EDGES))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]


def test_channels_chosen_by_an_index_are_frozen() -> None:
    order = torch.tensor([2, 0, 1, 5, 4, 3])
    program = traced(Function(lambda m, x: m.d(m.c(x)[:, m.order]), c=conv(3, 6), d=conv(6, 2), order=order))
    assert "indexed by the data" in reason_at(program, "c.weight", 0)
    assert "chooses what is read" in reason_at(program, "order", 0)


def test_indices_along_two_dimensions_are_unknown() -> None:
    index = torch.tensor([0, 1])
    program = traced(
        Function(lambda m, x: m.d(m.c(x)[:, m.i, m.i][:, :, :, None]), c=conv(3, 6), d=conv(2, 2, 1), i=index)
    )
    assert "no rule for this operator" in reason_at(program, "c.weight", 0)


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
    assert "aten.arange.default" in operators(program) or program.groups[0].width == 8
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]
