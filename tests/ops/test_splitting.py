"""Splits and slices hand each part its own channels; writing a slice back couples both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.analysis.identities import Identities
from swdc.errors import InputError
from swdc.ops.splitting import slice_call
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    conv,
    group_with,
    identity_of,
    image,
    members,
    operators,
    plan_of,
    randomise,
    reason_at,
    traced,
)


def test_unequal_chunks() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        a, b, c = torch.relu(m.stem(x)).chunk(3, dim=1)  # 4, 4 and 2
        return m.a(a) + m.b(b) + m.c(c)

    program = assert_slims(Function(forward, stem=conv(3, 10), a=conv(4, 2), b=conv(4, 2), c=conv(2, 2)))
    assert [group.width for group in program.groups] == [4, 4, 2]
    _, slim = certified(program, plan_of(program, {program.groups[0].name: [1], program.groups[1].name: [0, 1, 3]}))
    split = next(node for node in slim.graph.nodes if "split" in str(node.target))
    assert list(split.args[1]) == [1, 3, 2]


@pytest.mark.parametrize("dim", [1, -3])
def test_splits_of_all_kinds(dim: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.stem(x))
        a, b = y.split([6, 2], dim)
        c, d = y.split(4, dim)
        e, f = y.chunk(2, dim)
        return m.a(a) + m.b(b) + m.c(c * torch.sigmoid(d)) + m.e(e + f)

    parts = {"stem": conv(3, 8), "a": conv(6, 2), "b": conv(2, 2), "c": conv(4, 2), "e": conv(4, 2)}
    assert_slims(Function(forward, **parts))


def test_no_part_of_a_split_is_emptied() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = m.c(x).chunk(2, 1)
        return m.d(torch.cat([F.max_pool2d(b, 2), F.max_pool2d(a, 2)], 1))

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2)))
    assert [group.width for group in program.groups] == [4, 4]


def test_no_slice_is_emptied() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x)
        return m.d(torch.cat([F.max_pool2d(y[:, 2:], 2), F.max_pool2d(y, 2)[:, :2]], 1))

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2)))
    assert sorted(group.width for group in program.groups) == [2, 6]


def test_a_gated_linear_unit() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        value, gate = m.a(x).chunk(2, -1)
        return m.b(value * torch.sigmoid(gate))

    program = assert_slims(Function(forward, a=nn.Linear(5, 12), b=nn.Linear(6, 2)), image(3, 5))
    group = group_with(program, "a.weight[0]")
    assert group.members[0].indices.tolist() == [[k, k + 6] for k in range(6)]


def test_slices_from_both_ends() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(y[:, -3:]) + m.e(y[:, :-3]) + m.f(y[:, 2:4]) + m.g(y[:, :, 1:-1, ::2])[:, :, :1, :1]

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(3, 2), e=conv(5, 2), f=conv(2, 2), g=conv(8, 2)))
    assert sorted(group.width for group in program.groups) == [2, 3, 3]
    assert "aten.slice.Tensor" in operators(program)


@pytest.mark.parametrize("range_", [slice(None, None, 2), slice(3, None, 2), slice(1, 7, 3), slice(0, -1, 2)])
def test_channels_that_are_stepped_over_go_in_runs(range_: slice) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(y[:, range_]) + m.e(y)

    count = len(range(8)[range_])
    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(count, 2), e=conv(8, 2)))
    step = range_.step
    runs = {frozenset(g.members[0].indices[k].tolist()) for g in program.groups for k in range(g.width)}
    assert runs == {frozenset(range(start, min(start + step, 8))) for start in range(0, 8, step)}


def test_pairs_of_a_rotation_go_together() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        one, other = y[..., ::2], y[..., 1::2]
        return m.b(y * 2 + torch.stack([-other, one], -1).flatten(-2))

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 5))
    assert program.groups[0].members[0].indices.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("swapped", [True, False])
def test_a_dimension_taken_apart_is_frozen_unless_its_channels_come_back(swapped: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        first, second = m.c(x).unbind(1)
        return m.d(torch.stack([second, first] if swapped else [first, second.cumsum(1)], 1))

    program = traced(Function(forward, c=conv(3, 2), d=conv(2, 2)))
    if swapped:
        _, slim = certified(program, plan_of(program, {"c": [1]}))
        assert slim.get_parameter("d.weight").shape[1] == 1
    else:
        assert "takes the dimension apart" in reason_at(program, "c.weight", 0)


def test_positions_taken_apart_leave_the_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        first, second = torch.relu(m.a(x)).unbind(1)
        return m.b(first) * m.b(second)

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 2, 5))
    assert [group.width for group in program.groups] == [8]


def test_positions_up_to_a_size_known_at_run_time() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.relu(m.a(x) + m.place[: x.size(0), None]))

    place = nn.Parameter(torch.randn(50, 8))
    model = Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2), place=place)
    program = traced(model, image(4, 3, 5))
    certified(program)
    assert_same(model(image(50, 7, 5)), program(image(50, 7, 5)))
    with pytest.raises(InputError, match=r"batch <= 50 \(.*test_splitting.py:\d+\), got batch 51; give"):
        program(image(51, 3, 5))
    assert "place[0]" not in members(program)
    assert {"a.weight[0]", "a.bias[0]", "place[1]", "b.weight[1]"} in members(program)


@pytest.mark.parametrize(
    "cut",
    [
        lambda y: y.tensor_split(3, 1),
        lambda y: y.tensor_split((2, 5), 1),
        lambda y: y.hsplit(2),
        lambda y: y.hsplit((3,)),
        lambda y: torch.ops.aten.split.sizes(y, [2, 6], -1),
        lambda y: torch.ops.aten.unsafe_chunk(y, 2, 1),
        lambda y: torch.ops.aten.unsafe_split.Tensor(y, 3, -1),
        lambda y: (y.narrow(1, 0, 3), y.narrow(-1, -5, 5)),
        lambda y: y[None].dsplit(2),
        lambda y: y.mT.vsplit(2),
    ],
)
def test_every_way_to_split(cut: Any) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        parts = cut(torch.relu(m.a(x)))
        return sum((part * part).sum() * (n + 1) for n, part in enumerate(parts))

    program = assert_slims(Function(forward, a=nn.Linear(5, 8)), image(3, 5))
    assert len(program.groups) == len(cut(image(3, 8)))


def test_a_range_of_channels_that_ends_at_the_batch_freezes_them() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(m.a(x)[:, : x.shape[0]].sum(1, keepdim=True))

    model = Function(forward, a=nn.Linear(5, 8), b=nn.Linear(1, 2))
    program = traced(model, image(3, 5))
    assert "takes a number of indices that depends on the data, or on another size" in reason_at(program, "a.weight", 0)
    for batch in (1, 4, 8, 9):  # a batch beyond 8 reads all channels
        assert_same(model(image(batch, 5)), program(image(batch, 5)))


@pytest.mark.parametrize("range_", [slice(0, 4), slice(2, 8, 3), slice(-4, None)])
def test_channels_written_over_a_range_go_with_it(range_: slice) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        written = torch.relu(m.b(x))
        y = torch.slice_scatter(torch.relu(m.a(x)), written, 1, range_.start, range_.stop, range_.step or 1)
        return m.d(y)

    count = len(range(8)[range_])
    program = assert_slims(Function(forward, a=conv(3, 8), b=conv(3, count), d=conv(8, 2)))
    slots = {slot for group in members(program) for slot in group}
    assert {"a.weight[0]", "b.weight[0]", "d.weight[1]"} <= slots


def test_rows_written_over_a_range_keep_the_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.slice_scatter(m.a(x).relu(), m.c(x)[:, :2].relu(), 1, 1, 3))

    parts = {"a": nn.Linear(5, 8), "c": nn.Linear(5, 8), "b": nn.Linear(8, 2)}
    program = assert_slims(Function(forward, **parts), image(2, 4, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "c.weight[0]", "c.bias[0]", "b.weight[1]"}]


def test_writing_over_what_holds_no_channels_freezes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        table = torch.arange(8, dtype=x.dtype).expand(3, 8)
        return m.b(torch.slice_scatter(table, m.a(x), 1, 0, 4))

    program = traced(Function(forward, a=nn.Linear(5, 4), b=nn.Linear(8, 2)), image(3, 5))
    assert "writes over indices that are not known" in reason_at(program, "a.weight", 0)


def test_the_call_that_takes_a_row_of_channels() -> None:
    x = image(2, 5, 4)
    target, arguments = slice_call(1, 1, 3)
    assert torch.equal(target(x, *arguments), x[:, 1:3])


@pytest.mark.parametrize(
    ("function", "given_back"),
    [
        (lambda y: y.split(6, 1)[0], True),
        (lambda y: y.chunk(1, 1)[0], True),
        (lambda y: y.split([6], 1)[0], True),
        (lambda y: y.split(4, 1)[0], False),
        (lambda y: y.frexp()[0], False),
    ],
)
def test_a_part_that_is_the_whole(function: Any, given_back: bool) -> None:
    program = traced(Function(lambda m, x: m.d(function(m.c(x)).tile(1, 2)[:, :4]), c=conv(3, 6), d=conv(4, 2)))
    identity = identity_of(program, "operator.getitem")
    assert (identity is not None) is given_back
    assert identity is None or not identity.copies


def test_a_slice_of_everything_gives_back_what_it_reads_and_a_copy_does_so_in_its_own_memory() -> None:
    aten = torch.ops.aten
    model = Function(lambda m, x: aten.narrow_copy(m.c(x)[:, 0:6], 1, 0, 6)[:, 1:5], c=conv(3, 6))
    program = traced(model)
    found = [Identities(program, {}).of(node) for node in program.graph.nodes if node.op == "call_function"]
    assert [identity and identity.copies for identity in found] == [True, None]


def test_a_part_whose_size_may_change_holds_no_channels() -> None:
    """Behind channels stands an input of any length, so that the second part has any length, too."""
    model = Function(
        lambda m, x, y: m.b(torch.cat([m.a(x).relu(), y], 1).split(6, 1)[0]), a=nn.Linear(4, 5), b=nn.Linear(6, 3)
    )
    program = swdc.trace(randomise(model).eval(), (image(2, 4), image(2, 9)))
    assert "length" in program.facts.free
    assert program.groups == ()
    for length in (8, 9, 11):
        assert_same(program(image(2, 4), image(2, length)), model(image(2, 4), image(2, length)))


def test_parts_that_overlap_are_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.cat(m.a(x).tensor_split((6, 2), 1), 1))

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(12, 2)), image(4, 5))
    assert "takes parts that overlap" in reason_at(program, "a.weight", 0)
