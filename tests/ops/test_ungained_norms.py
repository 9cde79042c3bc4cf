"""Norms without a gain, alone and modulated by a computed scale and shift: a mask also takes the weights that read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.ir.groups import READS, WRITES
from tests.support import (
    Function,
    assert_exact,
    assert_same,
    certified,
    conv,
    group_with,
    image,
    plan_of,
    reason_at,
    traced,
)


class Modulated(nn.Module):
    """A block of a diffusion transformer without its attention: a condition gives shift, scale and gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.condition, self.up, self.down = nn.Linear(4, 3 * width), nn.Linear(width, 10), nn.Linear(10, width)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift, scale, gate = self.condition(F.silu(c))[:, None].chunk(3, dim=-1)
        return x + gate * self.down(F.gelu(self.up(self.norm(x) * (1 + scale) + shift)))


class Denoiser(nn.Module):
    """Two such blocks, and an end that is modulated by a table and the condition."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter, self.time, self.leave = nn.Linear(5, width), nn.Linear(3, 4), nn.Linear(width, 5)
        self.one, self.two = Modulated(width), Modulated(width)
        self.norm, self.table = nn.LayerNorm(width, elementwise_affine=False), nn.Parameter(torch.randn(2, width))
        self.last = nn.Linear(4, 2 * width)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        c = self.time(t)
        x = self.two(self.one(self.enter(x), c), c)
        shift, scale = (self.table[None] + self.last(c).view(c.shape[0], 2, -1)).unbind(1)
        return self.leave(self.norm(x) * (1 + scale[:, None]) + shift[:, None])


INPUTS = (image(2, 6, 5), image(2, 3))


def test_the_residual_stream_of_a_modulated_network_loses_channels() -> None:
    program = assert_exact(Denoiser(), INPUTS)
    stream = group_with(program, "enter.weight[0]")
    assert [group.width for group in program.groups] == [4, 8, 10, 10]
    roles = {f"{m.tensor}[{m.dim}]": m.roles for m in stream.members}
    assert {slot for slot, role in roles.items() if READS in role} == {
        "one.up.weight[1]", "two.up.weight[1]", "leave.weight[1]"
    }  # fmt: skip
    assert all(WRITES in role for role in roles.values())
    assert {"one.condition.weight[0]", "table[1]", "last.bias[0]", "two.down.weight[0]"} <= roles.keys()
    masked, slim = certified(program, plan_of(program, {stream.name: [1, 2, 6]}))
    gone = [0, 3, 4, 5, 7]
    assert masked.get_parameter("one.up.weight")[:, gone].eq(0).all()
    assert torch.equal(slim.get_parameter("two.up.weight"), program.get_parameter("two.up.weight")[:, [1, 2, 6]])


def test_it_is_transplanted_and_trained() -> None:
    model = Denoiser().double()
    program = swdc.trace(model, INPUTS)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.05)
    swd = swdc.SWD(program, target=0.4, steps=20, structure="filters", optimizer=optimizer, a_min=0.1, a_max=1e4)
    for _ in range(20):
        optimizer.zero_grad()
        program(torch.randn(8, 6, 5).double(), torch.randn(8, 3).double()).square().mean().backward()
        swd.step()
        optimizer.step()
    plan = swd.plan()
    swd.remove_()
    assert_same(program.eval()(*INPUTS), swdc.mask(program, plan)(*INPUTS))
    slim = swdc.slim(program, plan)
    with pytest.warns(UserWarning, match=r"replaced by their part of the slim program: .*norm"):
        mine = swdc.transplant(slim, model.eval())
    other = (image(3, 9, 5), image(3, 3))
    assert_same(slim(*other), mine(*other))


def test_padding_does_not_matter_to_a_reader_that_is_masked() -> None:
    def forward(m: Any, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        scale, shift = m.film(c)[..., None, None].chunk(2, dim=1)
        return m.b(torch.sigmoid(m.norm(m.a(x)) * (1 + scale) + shift))

    parts = {"a": conv(3, 8), "norm": nn.GroupNorm(2, 8, affine=False), "film": nn.Linear(3, 16), "b": conv(8, 2)}
    program = assert_exact(Function(forward, **parts), (image(2, 3, 6, 6), image(2, 3)))
    assert group_with(program, "a.weight[0]").width == 4


def test_constants_of_a_channel_whose_readers_are_masked_are_not_folded() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.cat([F.layer_norm(y, (6,)), torch.sigmoid(y), torch.sigmoid(m.c(x))], -1))

    model = Function(forward, a=nn.Linear(3, 6), c=nn.Linear(3, 4), b=nn.Linear(16, 2))
    program = assert_exact(model, image(4, 3))
    assert [group.width for group in program.groups] == [6, 4]
    bias, weight = program.get_parameter("b.bias"), program.get_parameter("b.weight")
    _, slim = certified(program, plan_of(program, {"a": [0, 5], "c": [0]}))
    assert torch.allclose(slim.get_parameter("b.bias"), bias + weight[:, 13:].sum(1) / 2, rtol=1e-12)


def test_what_reads_without_a_weight_still_freezes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.layer_norm(m.a(x), (6,))
        return m.b(y @ y.transpose(-1, -2))

    program = traced(Function(forward, a=nn.Linear(3, 6), b=nn.Linear(4, 2)), image(2, 4, 3))
    assert "its dead value is not a constant" in reason_at(program, "a.weight", 0)


def test_norms_that_are_written_out_need_no_gain() -> None:
    def normed(x: torch.Tensor) -> torch.Tensor:
        spread = x.var(-1, keepdim=True, unbiased=False)
        return (x - x.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt()

    def forward(m: Any, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        scale, shift = m.c(c)[:, None].chunk(2, dim=-1)
        x = m.a(x)
        x = x + m.down(torch.relu(m.up(normed(x) * (1 + scale) + shift)))
        return m.b(normed(x))

    parts = {"a": nn.Linear(5, 6), "c": nn.Linear(3, 12), "up": nn.Linear(6, 7), "down": nn.Linear(7, 6)}
    program = assert_exact(Function(forward, **parts, b=nn.Linear(6, 2)), (image(2, 4, 5), image(2, 3)))
    assert group_with(program, "a.weight[0]").width == 6
    assert WRITES in next(m.roles for m in program.groups[0].members if m.tensor == "b.weight")
