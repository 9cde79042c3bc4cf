"""Gains that are read as ``1 + gain``: the mask sets them to -1, and training pulls them there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.sparsity.baselines.zeroed_parts import ZeroedParts
from tests.support import (
    Function,
    assert_same,
    certified,
    conv,
    image,
    members,
    plan_of,
    random_plan,
    traced,
)

GAINS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    "1 + gain": (lambda g: 1 + g, -1.0),
    "gain + 0.5": (lambda g: g + 0.5, -0.5),
    "gain - 2": (lambda g: g - 2, 2.0),
    "2 - gain": (lambda g: 2 - g, 2.0),
    "torch.add": (lambda g: torch.add(g, 1, alpha=3), -3.0),
    "a view": (lambda g: (g + 1.0).view(1, 1, -1).to(torch.float64), -1.0),
}


class Residual(nn.Module):
    """A residual stream whose norms have no gains of their own."""

    def __init__(self, gain: Callable[[torch.Tensor], torch.Tensor] = lambda g: g + 1, width: int = 16) -> None:
        super().__init__()
        self.gain = gain
        self.enter, self.leave = nn.Linear(8, width), nn.Linear(width, 4)
        self.up = nn.ModuleList(nn.Linear(width, 24) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(24, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.gains = nn.ParameterList(torch.randn(width) * 0.3 for _ in range(3))

    def normed(self, x: torch.Tensor, number: int) -> torch.Tensor:
        return self.norms[number](x) * self.gain(self.gains[number])

    def forward(self, x: torch.Tensor) -> Any:
        x = self.enter(x)
        for number in range(2):
            x = x + self.down[number](self.up[number](self.normed(x, number)).relu())
        return self.leave(self.normed(x, 2))


@pytest.mark.parametrize("name", GAINS)
def test_a_residual_stream_loses_channels(name: str) -> None:
    gain, rest = GAINS[name]
    program = traced(Residual(gain), image(2, 5, 8))
    assert [group.width for group in program.groups] == [16, 24, 24]
    assert {member.rest for member in program.groups[0].members if "gains" in member.tensor} == {rest}
    plan = random_plan(program)
    masked, slim = certified(program, plan)
    kept = list(plan.kept[program.groups[0].name])
    assert masked.get_parameter("gains.1").eq(rest).sum() == 16 - len(kept)
    assert torch.equal(slim.get_parameter("gains.1"), program.get_parameter("gains.1")[kept])


def test_it_is_transplanted() -> None:
    model = Residual().double().eval()
    program = swdc.trace(model, image(2, 5, 8))
    slim = swdc.slim(program, random_plan(program))
    with pytest.warns(UserWarning, match="replaced by their part of the slim program: norms.0"):
        mine = swdc.transplant(slim, model)
    assert_same(slim(image(3, 5, 8)), mine(image(3, 5, 8)))


def test_a_small_number_in_a_divisor_is_no_gain() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.c(x) / (m.scale.abs() + 1) + m.c(x) / (m.other + 1e-5))

    parts = {"scale": nn.Parameter(torch.rand(6, 1, 1)), "other": nn.Parameter(torch.rand(6, 1, 1) + 1)}
    program = traced(Function(forward, c=conv(3, 6), d=conv(6, 2), **parts))
    assert {member.rest for group in program.groups for member in group.members} == {0.0}
    certified(program)


def test_a_gain_that_others_read_is_zero_and_its_readers_too() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.layer_norm(m.a(x), (6,))
        return m.b(y * (m.gain + 1) + m.gain)

    program = traced(
        Function(forward, a=nn.Linear(3, 6), b=nn.Linear(6, 2), gain=nn.Parameter(torch.randn(6))), image(4, 3)
    )
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "gain[0]", "b.weight[1]"}]
    masked, _ = certified(program, plan_of(program, {"a": [0, 3, 4]}))
    assert masked.get_parameter("gain")[[1, 2, 5]].tolist() == [0, 0, 0]
    assert masked.get_parameter("b.weight")[:, [1, 2, 5]].eq(0).all()


def test_the_gain_of_a_norm_may_be_computed() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(F.layer_norm(m.a(x), (6,), m.gain + 1))

    program = traced(
        Function(forward, a=nn.Linear(3, 6), b=nn.Linear(6, 2), gain=nn.Parameter(torch.randn(6))), image(4, 3)
    )
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "gain[0]", "b.weight[1]"}]
    masked, _ = certified(program, plan_of(program, {"a": [0, 3, 4]}))
    assert masked.get_parameter("gain")[[1, 2, 5]].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("settings", "left"), [({"a": "auto"}, 1e-4), ({"penalty": "gradient"}, 0.2), ({"penalty": "proximal"}, 0.2)]
)
def test_training_pulls_gains_to_where_they_write_zeros(settings: dict[str, Any], left: float) -> None:
    model = Residual()
    program = swdc.trace(model, torch.randn(2, 5, 8))
    optimizer = torch.optim.SGD(program.parameters(), lr=0.05)
    bounds = {} if "a" in settings else {"a_min": 0.1, "a_max": 2e4}
    swd = swdc.SWD(program, target=0.4, steps=60, structure="filters", optimizer=optimizer, **bounds, **settings)
    for _ in range(60):
        optimizer.zero_grad()
        program(torch.randn(8, 5, 8)).square().mean().backward()
        swd.step()
        optimizer.step()
    plan = swd.plan()
    masked = swdc.mask(program, plan)
    removed = sorted({*range(16)} - {*plan.kept[program.groups[0].name]})
    assert removed
    assert torch.allclose(model.gains[0][removed], torch.tensor(-1.0), atol=left)
    swd.remove_()
    x = torch.randn(4, 5, 8)
    assert torch.allclose(masked(x), program(x), atol=1e-6)


def test_a_baseline_holds_removed_gains() -> None:
    model = Residual()
    program = swdc.trace(model, torch.randn(2, 5, 8))
    plan = random_plan(program)
    held = ZeroedParts.by_plan(program, plan)
    held.zero_()
    x = torch.randn(4, 5, 8)
    assert torch.allclose(program(x), swdc.mask(program, plan)(x), atol=1e-6)
    again = type(held).from_state(held.state_dict(), program)
    assert [part.rest for part in again.parts] == [part.rest for part in held.parts]
    assert {part.rest for part in again.parts} == {0.0, -1.0}
