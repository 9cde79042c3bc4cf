"""Concatenation, splitting and slicing only move labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import (
    Function,
    assert_slims,
    certified,
    conv,
    group_with,
    image,
    members,
    operators,
    plan_of,
    reason_at,
    traced,
)


def test_a_concatenation_couples_each_part_with_its_slice() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        z = torch.relu(m.b(y))
        return m.c(torch.cat([y, z, y], 1))

    program = assert_slims(Function(forward, a=conv(3, 4), b=conv(4, 6), c=conv(14, 2)))
    first, second = program.groups
    assert first.members[-1].indices.tolist() == [[0, 10], [1, 11], [2, 12], [3, 13]]
    assert second.members[-1].indices.tolist() == [[k] for k in range(4, 10)]


def test_dense_blocks() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.stem(x)
        for norm, layer in ((m.n1, m.c1), (m.n2, m.c2)):
            y = torch.cat([y, layer(torch.relu(norm(y)))], 1)
        return m.last(torch.relu(y))

    parts = {
        "stem": conv(3, 6),
        "n1": nn.BatchNorm2d(6),
        "c1": conv(6, 4),
        "n2": nn.BatchNorm2d(10),
        "c2": conv(10, 4),
        "last": conv(14, 2),
    }
    program = assert_slims(Function(forward, **parts))
    assert [group.width for group in program.groups] == [6, 4, 4]
    assert {"n1.weight[0]", "n2.weight[0]", "n2.running_mean[0]", "last.weight[1]"} <= members(program)[0]


def test_a_concatenation_with_the_input_freezes_only_that_part() -> None:
    model = Function(lambda m, x: m.d(torch.cat([x, torch.relu(m.c(x))], -3)), c=conv(3, 6), d=conv(9, 2))
    program = assert_slims(model)
    assert [group.width for group in program.groups] == [6]
    assert "is the model's input" in reason_at(program, "d.weight", 1)


def test_a_concatenation_along_positions_couples_the_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(torch.cat([m.a(x), m.b(x), m.pad.expand(x.shape[0], -1, -1, -1)], 2)))

    program = assert_slims(Function(forward, a=conv(3, 6), b=conv(3, 6), d=conv(6, 2), pad=image(1, 6, 1, 8)))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[0]", "b.bias[0]", "pad[1]", "d.weight[1]"}]


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


def test_every_other_channel_is_frozen() -> None:
    program = traced(Function(lambda m, x: m.d(m.c(x)[:, ::2]), c=conv(3, 8), d=conv(4, 2)))
    assert "takes every n-th index" in reason_at(program, "c.weight", 0)


def test_taking_a_dimension_apart_is_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        first, second = torch.relu(m.c(x)).unbind(1)
        return m.d(torch.stack([second, first], 1))

    program = traced(Function(forward, c=conv(3, 2), d=conv(2, 2)))
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
    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2), place=place), image(4, 3, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "place[1]", "b.weight[1]"}]
    assert "a number of indices that depends on the data" in reason_at(program, "place", 0)
