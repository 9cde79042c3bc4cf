"""Leaf modules are built from the arguments of a call, and stand for exactly that call."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from swdc.ir.call import Call, Ref
from swdc.ops.leaf_modules import adopt, path_of, refs
from tests.support import assert_equal, conv, image, operators, randomise, traced


def call(**arguments: str | None) -> Call:
    node = fx.Graph().placeholder("x")
    return Call(node, "aten.linear.default", {n: Ref(v) if v is not None else None for n, v in arguments.items()})


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"weight": "a.b.weight", "bias": "a.b.bias"}, "a.b"),
        ({"weight": "a.b.weight", "bias": None}, "a.b"),
        ({"weight": "a.b.weight", "bias": "a.c.bias"}, None),
        ({"weight": "a.kernel", "bias": "a.bias"}, None),
        ({"weight": "weight", "bias": "bias"}, None),
    ],
)
def test_where_a_call_finds_its_tensors(arguments: dict[str, str | None], path: str | None) -> None:
    assert path_of(call(**arguments), "weight", "bias") == path


def test_modules_take_tensors_over_and_name_them() -> None:
    weight = nn.Parameter(torch.randn(3, 2))
    module = adopt(
        nn.Linear(2, 3, bias=False, device="meta"), call(weight="w", bias=None), {"w": weight}, "weight", "bias"
    )
    assert module.weight is weight
    assert refs(module, "p", "weight", "bias") == {"weight": "p.weight", "bias": None}


def test_a_module_with_more_tensors_than_its_call_uses_is_not_replaced() -> None:
    class Scaled(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 4, 3)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.scale

    program = traced(nn.Sequential(Scaled(), conv(4, 2)))
    assert operators(program) == ["aten.conv2d.default", "aten.mul.Tensor", "Conv2d"]
    assert "0.scale" in program.state_dict()


def test_a_module_called_in_two_ways_is_a_module_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y + nn.functional.conv2d(y, self.conv.weight, self.conv.bias, padding=2, dilation=2)

    model = randomise(Twice())
    program = traced(model)
    assert operators(program)[:2] == ["Conv2d", "aten.conv2d.default"]
    assert_equal(model.eval()(image()), program(image()))


def test_the_leaves_are_plain_modules_of_torch() -> None:
    class Mine(nn.Linear):
        pass

    program = traced(nn.Sequential(Mine(4, 3)), image(2, 4))
    assert type(program.get_submodule("0")) is nn.Linear
