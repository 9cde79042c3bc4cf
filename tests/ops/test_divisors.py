"""Tensors of the model that something is divided by, or that a logarithm is taken of: a mask leaves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swdc.ir.groups import STATISTIC
from tests.support import Function, assert_exact, certified, group_with, image, members, plan_of, reason_at, traced

PARTS = {"a": nn.Linear(3, 6), "b": nn.Linear(6, 2)}


@pytest.mark.parametrize("buffer", [False, True])
@pytest.mark.parametrize(
    "scaled",
    [
        lambda y, s: y / s,
        lambda y, s: y * (1 / s),
        lambda y, s: y * s.log(),
        lambda y, s: y / (s.exp() - 1),
        lambda y, s: (y - y.sign() * s) * y / s,
    ],
)
def test_a_divisor_goes_with_its_channel_and_is_not_masked(scaled: Callable[..., Any], buffer: bool) -> None:
    scale = torch.rand(6) + 1.5
    model = Function(
        lambda m, x: m.b(torch.tanh(scaled(m.a(x), m.scale))), **PARTS, scale=scale if buffer else nn.Parameter(scale)
    )
    program = assert_exact(model, image(4, 3))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "scale[0]", "b.weight[1]"}]
    (member,) = (member for member in program.groups[0].members if member.tensor == "scale")
    assert member.roles == {STATISTIC}
    masked, slim = certified(program, plan_of(program, {"a": [1, 4]}))
    assert torch.equal(masked.tensors["scale"], program.tensors["scale"])
    assert torch.equal(slim.tensors["scale"], program.tensors["scale"][[1, 4]])


def test_a_weight_norm_written_out_loses_filters() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.tanh(F.linear(x, m.g * m.v / m.v.norm(dim=1, keepdim=True))))

    parts = {"v": nn.Parameter(torch.randn(6, 3)), "g": nn.Parameter(torch.rand(6, 1) + 0.5)}
    program = assert_exact(Function(forward, b=PARTS["b"], **parts), image(4, 3))
    assert {f"{m.tensor}[{m.dim}]" for m in program.groups[0].with_role("writes")} == {"g[0]"}
    assert group_with(program, "v[0]") is program.groups[0]


class Splines(nn.Module):
    """A layer of a Kolmogorov-Arnold network: a piecewise linear function of each input for each output."""

    def __init__(self, inputs: int, outputs: int, pieces: int = 4) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-1, 1, pieces + 2).repeat(inputs, 1))
        self.heights = nn.Parameter(torch.randn(inputs, outputs, pieces))
        self.gain, self.base = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[..., None]
        left = (x - self.grid[:, :-2]) / (self.grid[:, 1:-1] - self.grid[:, :-2])
        right = (self.grid[:, 2:] - x) / (self.grid[:, 2:] - self.grid[:, 1:-1])
        curves = torch.einsum("nip,iop->nio", torch.minimum(left, right).clamp(min=0), self.heights)
        return (self.gain * curves + self.base * F.silu(x)).sum(1)


def test_hidden_units_of_a_network_of_splines_go() -> None:
    program = assert_exact(nn.Sequential(Splines(3, 6), Splines(6, 5), Splines(5, 2)), image(4, 3) / 3)
    first = group_with(program, "0.gain[1]")
    assert first.width == 6
    slots = {f"{m.tensor}[{m.dim}]" for m in first.members}
    assert {"0.heights[1]", "0.base[1]", "1.grid[0]", "1.heights[0]", "1.gain[0]", "1.base[0]"} <= slots
    masked, _ = certified(program, plan_of(program, {first.name: [0, 5]}))
    assert torch.equal(masked.tensors["1.grid"], program.tensors["1.grid"])


def test_a_divisor_that_is_computed_from_the_input_still_freezes() -> None:
    model = Function(lambda m, x: m.b(m.a(x) / m.c(x)), c=nn.Linear(3, 6), **PARTS)
    assert "is not defined for a dead channel" in reason_at(traced(model, image(4, 3)), "a.weight", 0)
