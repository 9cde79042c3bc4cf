"""One result of several: its channels are those of that result."""

from __future__ import annotations

from typing import Any

import torch

import swdc
from swdc.ops.items import is_item
from tests.support import Function, assert_same, conv, image, plan_of, randomise


def test_an_item_has_the_channels_of_its_result() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.relu(m.a(x)).split(4, 1)
        return m.b(a) + m.c(b)

    model: Any = randomise(Function(forward, a=conv(3, 8), b=conv(4, 2), c=conv(4, 2))).eval()
    program = swdc.trace(model, image(2, 3, 8, 8))
    assert sum(map(is_item, program.graph.nodes)) == 2
    first, second = program.groups
    plan = plan_of(program, {first.name: [0, 2], second.name: [1]})
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    for shape in ((1, 3, 8, 8), (2, 3, 6, 11)):
        assert_same(masked(x := image(*shape)), slim(x))
    assert (slim.get_submodule("b").in_channels, slim.get_submodule("c").in_channels) == (2, 1)
