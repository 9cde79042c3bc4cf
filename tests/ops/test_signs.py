"""What is known of the signs of values: never more than what holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swdc.ops.signs import counting_zeros, signs_of
from tests.support import Function, certified, conv, image, traced

Made = Callable[[torch.Tensor], torch.Tensor]

ABOVE: dict[str, Made] = {
    "relu": lambda x: F.max_pool2d(F.avg_pool2d(x.relu(), 2), 2),
    "clamp": lambda x: x.clamp(0, 3) + x.clamp_min(0.5) * 2,
    "softplus": lambda x: torch.cat([F.softplus(x), x.sigmoid()], 1)[:, 1:].permute(0, 2, 3, 1).flatten(1),
    "square": lambda x: (x * x).mean(1) / (x.norm(dim=1) + 1),
    "minus": lambda x: x.abs().neg().neg() - x.log_softmax(1),
    "larger": lambda x: torch.maximum(x, x.exp()) ** 3,
    "where": lambda x: torch.where(x > 0, x.relu(), x.square()).chunk(2, 1)[1],
    "values": lambda x: F.relu6(x).max(1)[0].unsqueeze(1).expand(-1, 4, -1, -1),
    "power": lambda x: x**2 + x.shape[0],
    "product": lambda x: x.softmax(-1) @ x.relu(),
    "filled": lambda x: F.pad(x.relu().masked_fill(x > 1, 2.0), (1, 1)),
    "smaller": lambda x: torch.minimum(x.square(), x.new_ones(1)),
    "cast": lambda x: x.relu().float().double(),
    "gelu": lambda x: F.gelu(x.relu()) + F.leaky_relu(x.abs()),
}
UNKNOWN: dict[str, Made] = {
    "itself": lambda x: x.view(2, -1),
    "shifted": lambda x: x.relu() - 1,
    "bounds": lambda x: x.clamp(-1, 1),
    "hardtanh": F.hardtanh,
    "difference": lambda x: x.relu() - x.square(),
    "product": lambda x: x * x.relu(),
    "cube": lambda x: x**3,
    "pad": lambda x: F.pad(x.relu(), (1, 1), value=-1.0),
    "filled": lambda x: x.relu().masked_fill(x > 1, float("-inf")),
    "leaky": F.leaky_relu,
    "joined": lambda x: torch.cat([x, x.relu()], 1),
    "softplus": lambda x: F.softplus(x, beta=-1.0),
    "bicubic": lambda x: F.interpolate(x.relu(), scale_factor=2, mode="bicubic"),
    "places": lambda x: (-x.relu()).max(1)[1].double(),
}


def _signs(function: Made) -> tuple[Any, torch.Tensor]:
    """Return what is known of the last value that a function computes, and the value."""
    x = image(2, 4, 4, 4).requires_grad_(False)
    program = traced(Function(lambda m, x: function(x)), x)
    last = program.graph.output_node().all_input_nodes[-1]
    return signs_of(program)[last], function(x)


@pytest.mark.parametrize("name", ABOVE)
def test_values_that_are_never_negative(name: str) -> None:
    sign, value = _signs(ABOVE[name])
    assert (value >= 0).all()
    assert sign.not_negative
    assert not sign.not_positive


@pytest.mark.parametrize("name", ABOVE)
def test_their_opposites_are_never_positive(name: str) -> None:
    sign, _ = _signs(lambda x: ABOVE[name](x).neg())
    assert (sign.not_negative, sign.not_positive) == (False, True)


@pytest.mark.parametrize("name", UNKNOWN)
def test_values_of_which_it_is_not_known(name: str) -> None:
    assert not _signs(UNKNOWN[name])[0].not_negative


@pytest.mark.parametrize(("relu", "found"), [(True, []), (False, [True, False])])
def test_extrema_that_zeros_of_removed_channels_may_decide(relu: bool, found: list[bool]) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.f(m.c(x))
        return y.amax(1) - (-y if relu else y).amin(1)

    program = traced(Function(forward, c=conv(3, 6), f=nn.ReLU() if relu else nn.Tanh()), image(2, 3, 4, 4))
    _, slim = certified(program)
    assert [largest for _, largest in counting_zeros(slim)] == found


def test_nothing_is_known_of_values_that_are_overwritten() -> None:
    program = traced(Function(lambda m, x: m.c(x).relu().amax(1), c=conv(3, 6)), image(2, 3, 4, 4))
    assert any(sign.not_negative for sign in signs_of(program).values())
    changed = program.clone()
    last = changed.graph.output_node()
    with changed.graph.inserting_before(last):
        changed.graph.call_function(torch.ops.aten.neg_.default, (last.all_input_nodes[0],))
    assert signs_of(changed) == {}
