"""Reading by index: channels beside the dimensions that are indexed pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from swdc.ops.indexing import gather_call
from swdc.rewriting.deploy import deploy
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    conv,
    frozen_at,
    group_with,
    image,
    members,
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


def test_channels_beside_those_that_are_indexed_pass() -> None:
    index = torch.tensor([0, 1])
    program = traced(
        Function(lambda m, x: m.d(m.c(x)[:, m.i, m.i][:, :, :, None]), c=conv(3, 6), d=conv(2, 2, 1), i=index)
    )
    assert "indexed by the data" in reason_at(program, "c.weight", 0)


INDEX, SQUARE = torch.tensor([0, 2, 1]), torch.tensor([[0, 1], [3, 2]])
MASK = torch.tensor([True, False, True, True])


@pytest.mark.parametrize(
    ("picked", "places"),
    [
        (lambda y, i, j, m: y[i], [None, 1, 2, 3]),
        (lambda y, i, j, m: y[j], [None, None, 1, 2, 3]),
        (lambda y, i, j, m: y[:, i], [0, None, 2, 3]),
        (lambda y, i, j, m: y[i, i], [None, 2, 3]),
        (lambda y, i, j, m: y[:, :, i, i], [0, 1, None]),
        (lambda y, i, j, m: y[:, i, :, i], [None, 0, 2]),
        (lambda y, i, j, m: y[j, :, i[:2]], [None, None, 1, 3]),
        (lambda y, i, j, m: y[:, m], [0, None, 2, 3]),
        (lambda y, i, j, m: y[:, :, m[:, None] & m], [0, 1, None]),
    ],
)
@pytest.mark.parametrize("channels", [0, 1, 2, 3])
def test_where_advanced_indexing_puts_dimensions(picked: Any, places: list[int | None], channels: int) -> None:
    """Four dimensions of size 4, of which one holds the channels."""
    order = [d if d < channels else 3 if d == channels else d - 1 for d in range(4)]

    def forward(m: Any, x: torch.Tensor, *indices: torch.Tensor) -> torch.Tensor:
        y = picked(m.a(x).tanh().permute(order), *indices)
        return (y * y).sum() if channels not in places else m.b(y.transpose(places.index(channels), -1))

    model = Function(forward, a=nn.Linear(5, 4), **({"b": nn.Linear(4, 2)} if channels in places else {}))
    program = traced(model, (image(4, 4, 4, 5), INDEX, SQUARE, MASK))
    if channels not in places:
        assert not program.groups, program.explain()
        return
    assert [group.width for group in program.groups] == [4]
    certified(program)


def test_a_table_of_relative_positions_keeps_its_heads() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        bias = m.table[m.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)
        return m.b((m.a(x)[..., None, None] + bias).sum((-1, -2)))

    parts = {"a": nn.Linear(5, 8), "b": nn.Linear(8, 2), "table": nn.Parameter(torch.randn(10, 8))}
    index = torch.randint(0, 10, (4, 4), generator=torch.Generator().manual_seed(0))
    program = assert_slims(Function(forward, **parts, index=index), image(3, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "table[1]", "b.weight[1]"}]


@pytest.mark.filterwarnings("ignore:the sizes of all inputs are fixed")
@pytest.mark.parametrize("way", ["gather", "take_along_dim", "broadcast"])
def test_values_picked_along_positions(way: str) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        if way == "broadcast":
            return m.b(torch.take_along_dim(y, x[..., :1].argsort(1), 1))
        order = m.c(x).argsort(1)
        return m.b(y.gather(1, order) if way == "gather" else y.take_along_dim(order, 1))

    parts = {"a": nn.Linear(5, 8), "c": nn.Linear(5, 8), "b": nn.Linear(8, 2)}
    if way == "broadcast":
        del parts["c"]
    program = assert_slims(Function(forward, **parts), image(2, 4, 5))
    together = {"a.weight[0]", "a.bias[0]", "b.weight[1]"}
    assert members(program) == [together if way == "broadcast" else together | {"c.weight[0]", "c.bias[0]"}]


def test_channels_picked_by_the_data_are_frozen() -> None:
    model = Function(lambda m, x: m.b(m.a(x).gather(1, m.order.expand(3, 8))), a=nn.Linear(5, 8), b=nn.Linear(8, 2),
        order=torch.randperm(8))  # fmt: skip
    assert "indexed by the data" in reason_at(traced(model, image(3, 5)), "a.weight", 0)
    fewer = Function(lambda m, x: m.b(m.a(x).gather(0, x[:, :4].argsort(0))), a=nn.Linear(5, 8), b=nn.Linear(4, 2))
    assert "indexed by the data" in reason_at(traced(fewer, image(3, 5)), "a.weight", 0)


@pytest.mark.parametrize(
    "pick",
    [
        lambda y, i: y.index_select(1, i),
        lambda y, i: y.gather(1, i[None, :, None, None].expand(y.shape[0], -1, *y.shape[2:])),
    ],
)
def test_constants_are_known_in_the_order_in_which_they_are_picked(pick: Any) -> None:
    order = torch.tensor([5, 0, 3, 1, 2, 4])
    model = Function(lambda m, x: pick(m.c(x), m.order) + m.d(x), c=conv(3, 6), d=conv(3, 6), order=order)
    x = image(2, 3, 6, 6)
    program = traced(model, x)
    nn.init.zeros_(model.c.weight)  # every channel is its bias
    assert_same(deploy(program)(x), program(x))


def test_one_index_written_over() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.select_scatter(torch.relu(m.a(x)), m.c(x).sum(-1), 1, -3)
        return m.b(y)

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), c=nn.Linear(5, 3), b=nn.Linear(8, 2)), image(3, 5))
    assert "writes a channel by its number" in reason_at(program, "a.weight", 0)
    assert group_with(program, "a.weight[0]").width == 7


def test_one_position_written_over() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.select_scatter(torch.relu(m.a(x)), torch.relu(m.c(x))[:, 0], 1, 2))

    parts = {"a": nn.Linear(5, 8), "c": nn.Linear(5, 8), "b": nn.Linear(8, 2)}
    program = assert_slims(Function(forward, **parts), image(2, 4, 5))
    assert group_with(program, "a.weight[0]") == group_with(program, "c.weight[0]")


def test_a_scalar_may_be_picked_from_a_scalar() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        total = torch.relu(m.a(x)).sum()
        return m.a(x).sum(1) * total.index_select(0, torch.zeros(1, dtype=torch.long)).reshape(())

    assert_slims(Function(forward, a=nn.Linear(5, 8)), image(3, 5))


def test_the_call_that_takes_channels_by_their_numbers() -> None:
    x, graph = image(2, 5, 4), fx.Graph()
    target, (dim, indices) = gather_call(1, graph.placeholder("channels"))
    assert indices.name == "channels"
    assert torch.equal(target(x, dim, torch.tensor([3, 0, 3])), x[:, [3, 0, 3]])
