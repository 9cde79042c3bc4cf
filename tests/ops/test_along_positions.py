"""Operators along positions: channels beside them pass, channels along them stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, image, reason_at, traced


def matrices(function: Any, last: bool) -> Function:
    """A function of (batch, channels, 4, 4), or of (batch, 4, 4, channels) where the channels come last."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        z = function(y if last else y.permute(0, 3, 1, 2))
        return m.b((z if last else z.permute(0, 2, 3, 1)).flatten(1, -2).sum(1))

    return Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2))


FUNCTIONS = [
    lambda y: y.tril(),
    lambda y: y.triu(1),
    lambda y: y.diagonal(dim1=2, dim2=3)[..., None],
    lambda y: torch.diag_embed(y[..., 0]),
    lambda y: torch.diag_embed(y[..., 0], 1, -1, -2),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_channels_beside_matrices_pass(function: Any) -> None:
    program = assert_slims(matrices(function, last=False), image(2, 4, 4, 5))
    assert [group.width for group in program.groups] == [8]


@pytest.mark.parametrize("function", [lambda y: y.tril(), lambda y: y.diagonal(dim1=1, dim2=3).mT[..., :1].tile(8)])
def test_channels_of_a_matrix_stay(function: Any) -> None:
    program = traced(matrices(function, last=True), image(2, 4, 4, 5))
    assert "works along this dimension" in reason_at(program, "a.weight", 0)


def test_a_matrix_that_is_stored_is_held() -> None:
    model = Function(lambda m, x: m.w.tril() @ m.a(x).mT, a=nn.Linear(5, 8), w=nn.Parameter(torch.randn(8, 8)))
    program = traced(model, image(2, 4, 5))
    assert "works along this dimension" in reason_at(program, "w", 0)


def test_triangles_keep_only_zeros() -> None:
    model = matrices(lambda y: torch.sigmoid(y).tril(), last=False)
    assert "sums over the channel" in reason_at(traced(model, image(2, 4, 4, 5)), "a.weight", 0)


def test_a_diagonal_under_its_name_in_linear_algebra() -> None:
    assert_slims(
        matrices(lambda y: torch.linalg.diagonal(y, dim1=1, dim2=2).mT.unsqueeze(2), last=True), image(2, 4, 4, 5)
    )
