"""Sorting, searching and counting along positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, image, reason_at, traced


def tokens(function: Any) -> Function:
    """A function of (batch, 4 positions, 8 channels), summed over positions and read by a dense layer."""
    return Function(lambda m, x: m.b(function(torch.relu(m.a(x))).sum(1)), a=nn.Linear(5, 8), b=nn.Linear(8, 2))


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.sort(1)[0] * torch.arange(1, 5, dtype=y.dtype)[:, None],
        lambda y: y.sort(dim=1, stable=True, descending=True).values[:, :2],
        lambda y: y.topk(2, 1).values,
        lambda y: y.gather(1, y.topk(3, 1)[1]),
        lambda y: y.gather(1, y.argsort(-2)),
        lambda y: y * y.argsort(1),
        lambda y: y.transpose(1, 0).msort().transpose(0, 1)[:, 1:],
        lambda y: y.kthvalue(2, 1).values[:, None],
        lambda y: y.kthvalue(2, 1, keepdim=True).values,
        lambda y: (torch.sigmoid(y).topk(2, 1).values - 0.5).amax(1, keepdim=True),
    ],
)
def test_order_along_positions_leaves_the_channels(function: Any) -> None:
    program = assert_slims(tokens(function), image(2, 4, 5))
    assert [group.width for group in program.groups] == [8]


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.sort(-1).values,
        lambda y: y.topk(8, -1).values,
        lambda y: torch.cat([y, torch.sigmoid(y)], -1).topk(8, -1).values,
        lambda y: y.gather(-1, y.argsort(-1)),
        lambda y: y.kthvalue(2, -1, keepdim=True).values.tile(8),
    ],
)
def test_order_along_channels_freezes_them(function: Any) -> None:
    program = traced(tokens(function), image(2, 4, 5))
    assert "works along this dimension" in reason_at(program, "a.weight", 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: torch.bucketize(y, torch.arange(3, dtype=y.dtype)).to(y.dtype),
        lambda y: torch.searchsorted(torch.arange(3, dtype=y.dtype), y).to(y.dtype),
        lambda y: nn.functional.one_hot((y > 1).long(), 2)[..., 0].to(y.dtype),
        lambda y: torch.isin(y, torch.zeros(1, dtype=y.dtype)).to(y.dtype),
    ],
)
def test_what_looks_at_every_value_freezes(function: Any) -> None:
    program = traced(tokens(function), image(2, 4, 5))
    assert "looks at every value" in reason_at(program, "a.weight", 0)


def test_places_that_are_not_zero() -> None:
    def forward(m: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = mask.nonzero().squeeze(1)
        return m.b(torch.relu(m.a(x))[places])

    model = Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    program = assert_slims(model, (image(5, 5), torch.tensor([1, 0, 1, 1])))
    assert [group.width for group in program.groups] == [8]
