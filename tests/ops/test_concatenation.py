"""Concatenation and stacking only move labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import (
    Function,
    assert_slims,
    conv,
    identity_of,
    image,
    members,
    reason_at,
    traced,
    vector_net,
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


@pytest.mark.parametrize(
    ("function", "width"),
    [
        (lambda y: torch.hstack([y, y * 2]), 16),
        (lambda y: torch.column_stack([y, y.sigmoid()]), 16),
        (lambda y: torch.concat([y, y.flip(-1)], -1), 16),
        (lambda y: torch.vstack([y, y]), 8),
        (lambda y: torch.dstack([y, y, y]).sum(-1), 8),
        (lambda y: torch.cat([y, y.new_zeros(0)], -1), 8),
        (lambda y: torch.stack([y, y * 3], 1).flatten(1), 16),
        (lambda y: torch.stack([y, y * 3], -1).flatten(1), 16),
        (lambda y: torch.stack([y, y * 3], -2).amax(-2), 8),
    ],
)
def test_every_way_to_put_together(function: Any, width: int) -> None:
    program = assert_slims(vector_net(function, width), image(3, 5))
    assert [group.width for group in program.groups] == [8]


@pytest.mark.parametrize("name", ["hstack", "vstack", "dstack", "column_stack"])
def test_vectors_and_matrices_are_raised_to_one_rank(name: str) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        vectors = [torch.relu(m.a(x)).sum(0), m.a(x).tanh().sum(0)]
        y = getattr(torch, name)(vectors)
        return (y * y * y).sum() if name == "hstack" else (y * y).sum() + (y * y * y).sum()

    program = assert_slims(Function(forward, a=nn.Linear(5, 8)), image(3, 5))
    assert [group.width for group in program.groups] == [8]


def test_a_stack_with_what_holds_no_channels_is_frozen() -> None:
    program = traced(
        vector_net(lambda y: torch.stack([y, torch.arange(8.0, dtype=y.dtype).expand(y.shape)], 1).sum(1)), image(3, 5)
    )
    assert "holds no removable channels" in reason_at(program, "a.weight", 0)


def test_a_single_tensor_is_given_back() -> None:
    program = traced(Function(lambda m, x: torch.cat([m.c(x)], 1), c=conv(3, 6)))
    identity = identity_of(program, "aten.cat.default")
    assert identity is not None
    assert identity.copies
    program = traced(Function(lambda m, x: torch.cat([m.c(x), m.c(x)], 1), c=conv(3, 6)))
    assert identity_of(program, "aten.cat.default") is None
