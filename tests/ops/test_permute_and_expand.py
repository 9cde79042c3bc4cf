"""Permuting, expanding and repeating."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import (
    Function,
    assert_slims,
    call_of,
    conv,
    group_with,
    identity_of,
    image,
    members,
    traced,
)


@pytest.mark.parametrize(
    "moved",
    [
        lambda y: y.permute(0, 2, 3, 1),
        lambda y: y.permute(0, -2, -1, 1),
        lambda y: y.transpose(1, -1).transpose(1, 2),
        lambda y: y.unsqueeze(-1).transpose(1, -1).squeeze(1),
        lambda y: y[:, None].swapaxes(1, 2).squeeze(2).permute(0, 2, 3, 1),
    ],
)
def test_channels_last(moved: Callable[[torch.Tensor], torch.Tensor]) -> None:
    program = assert_slims(Function(lambda m, x: m.fc(moved(torch.relu(m.c(x)))), c=conv(3, 6), fc=nn.Linear(6, 2)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "fc.weight[1]"}]


def test_expansion_of_pooled_maps() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        pooled = F.adaptive_avg_pool2d(y, 1)
        height, width = y.shape[2:]
        return m.d(torch.cat([y, pooled.expand(-1, -1, height, width), pooled.expand_as(y)], 1)) + m.e(
            pooled.expand(y.shape[0], 6, height, width)
        )

    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(18, 2), e=conv(6, 2)))
    assert group_with(program, "c.weight[0]").width == 6


def test_one_channel_expanded_over_all_is_not_zero_when_they_are() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(m.s(x).expand_as(y) + y) + m.e(torch.sigmoid(m.s(x)).expand_as(y) * y)

    program = traced(Function(forward, c=conv(3, 6), s=conv(3, 1), d=conv(6, 2), e=conv(6, 2)))
    assert program.groups == ()


def test_repeated_channels() -> None:
    model = Function(lambda m, x: m.d(torch.relu(m.c(x)).repeat(1, 3, 1, 1)), c=conv(3, 6), d=conv(18, 2))
    program = assert_slims(model)
    group = group_with(program, "c.weight[0]")
    assert group.members[-1].indices.tolist() == [[k, k + 6, k + 12] for k in range(6)]


@pytest.mark.parametrize(
    ("name", "function", "found"),
    [
        ("aten.permute.default", lambda y: y.permute(0, 2, -1, 1), [0, 2, 3, 1]),
        ("aten.transpose.int", lambda y: y.transpose(1, -1), [0, 3, 2, 1]),
        ("aten.transpose.int", lambda y: y.transpose(2, 2), [0, 1, 2, 3]),
    ],
)
def test_each_dimension_is_one_of_the_input(name: str, function: Any, found: list[int]) -> None:
    operator, call = call_of(traced(Function(lambda m, x: function(m.c(x)), c=conv(3, 6))), name)
    assert [operator.laid_out_from(call, dim) for dim in range(4)] == [(call["self"], dim) for dim in found]


GIVEN_BACK: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "aten.permute.default": (lambda y: y.permute(0, 1, 2, -1), lambda y: y.permute(0, 1, 3, 2)),
    "aten.transpose.int": (lambda y: y.transpose(-1, 3), lambda y: y.transpose(2, 3)),
    "aten.movedim.intlist": (lambda y: y.movedim((1, 2), (1, -2)), lambda y: y.movedim((2, 3), (3, 2))),
    "aten.swapaxes.default": (lambda y: y.swapaxes(1, 1), lambda y: y.swapaxes(2, 3)),
    "aten.expand.default": (lambda y: y.expand(-1, 6, 8, 8), lambda y: y[:, :1].expand(-1, 6, 8, 8)),
    "aten.repeat.default": (lambda y: y.repeat(1, 1, 1, 1), lambda y: y.repeat(1, 1, 1, 2)),
    "aten.squeeze.dim": (lambda y: y.squeeze(1), lambda y: y[:, :1].squeeze(1)),
}


@pytest.mark.parametrize("name", GIVEN_BACK)
def test_what_gives_back_what_it_reads(name: str) -> None:
    same, other = (traced(Function(lambda m, x, f=f: f(m.c(x)), c=conv(3, 6))) for f in GIVEN_BACK[name])
    identity = identity_of(same, name)
    assert identity is not None
    assert identity.copies is (name == "aten.repeat.default")
    assert identity_of(other, name) is None


def test_an_expansion_under_its_other_name() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        whole = torch.broadcast_to(torch.relu(m.c(x)), (x.shape[0], 6, 8, 8))
        return m.d(whole + torch.broadcast_to(m.state, (x.shape[0], 6, 8, 8)))

    program = assert_slims(
        Function(forward, c=conv(3, 6), d=conv(6, 2), state=nn.Parameter(torch.randn(1, 6, 1, 1))), image(2, 3, 8, 8)
    )
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "state[1]", "d.weight[1]"}]
    program = traced(Function(lambda m, x: torch.broadcast_to(m.c(x), (x.shape[0], 6, 8, 8)), c=conv(3, 6)))
    assert identity_of(program, "aten.broadcast_to.default") is not None
