"""A layer beside an affine map of channels does the work of both, in numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.base import Affine, Operator
from tests.support import Function, assert_same, conv, image, traced

LAYERS: dict[str, nn.Module] = {
    "convolution": conv(6, 8, padding=0),
    "grouped": conv(6, 8, groups=2, padding=0, bias=False),
    "depthwise": conv(6, 6, groups=6, padding=0),
    "transposed": nn.ConvTranspose2d(6, 8, 3),
    "transposed, grouped": nn.ConvTranspose2d(6, 8, 3, groups=2, bias=False),
    "dense": nn.Linear(6, 8),
}


def program_of(name: str) -> tuple[Program, torch.Tensor]:
    layer = LAYERS[name]
    x = image(3, 6) if isinstance(layer, nn.Linear) else image(3, 6, 8, 8)
    return traced(nn.Sequential(layer), x), x


def affine(channels: int) -> Affine:
    scale, shift = image(2, channels, seed=7).unbind()
    return scale, shift


def mapped(x: torch.Tensor, by: Affine) -> torch.Tensor:
    """Return scale x + shift, with the channels of x along dimension 1."""
    scale, shift = (one.reshape(-1, *[1] * (x.dim() - 2)) for one in by)
    return scale * x + shift


def with_tensors(program: Program, both: Affine | None, x: torch.Tensor) -> torch.Tensor:
    """Return what a layer computes with another weight and bias."""
    assert both is not None
    (layer,) = program.leaves.values()
    weight, bias = both
    layer.bias = nn.Parameter(bias)
    layer.weight = nn.Parameter(weight)
    return layer(x)


def only(program: Program) -> tuple[Operator, Any]:
    (found,) = calls(program).values()
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_then_an_affine_map(name: str) -> None:
    program, x = program_of(name)
    expected = program(x)
    operator, call = only(program)
    by = affine(expected.shape[1])
    both = operator.then_affine(call, program.tensors, by, 1)
    assert_same(mapped(expected, by), with_tensors(program, both, x))


@pytest.mark.parametrize("name", [name for name in LAYERS if "transposed" not in name])
def test_an_affine_map_then_a_layer(name: str) -> None:
    program, x = program_of(name)
    by = affine(6)
    expected = program(mapped(x, by))
    operator, call = only(program)
    both = operator.after_affine(call, program.tensors, by)
    assert_same(expected, with_tensors(program, both, x))


@pytest.mark.parametrize("layer", [conv(6, 8), conv(6, 8, groups=2), nn.ConvTranspose2d(6, 8, 3, groups=2)])
def test_at_borders_there_is_no_shift_to_take(layer: nn.Module) -> None:
    x = image(3, 6, 8, 8)
    program = traced(nn.Sequential(layer), x)
    scale, shift = affine(6)
    operator, call = only(program)
    assert operator.after_affine(call, program.tensors, (scale, shift)) is None
    by = (scale, torch.zeros_like(shift))
    expected = program(mapped(x, by))
    assert_same(expected, with_tensors(program, operator.after_affine(call, program.tensors, by), x))


def test_channels_have_to_stand_where_the_layer_writes_them() -> None:
    by = affine(8)
    for name, dims in (("convolution", [1]), ("transposed", [1]), ("dense", [1])):
        program, _ = program_of(name)
        operator, call = only(program)
        rank = len(call.shape)
        assert [d for d in range(rank) if operator.then_affine(call, program.tensors, by, d) is not None] == dims
    program = traced(nn.Sequential(nn.Linear(6, 8)), image(3, 5, 6))
    operator, call = only(program)
    assert [d for d in range(3) if operator.then_affine(call, program.tensors, by, d) is not None] == [2]
    assert operator.after_affine(call, program.tensors, affine(6)) is None


def test_a_computed_weight_takes_nothing() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, m.weight.tanh())

    program = traced(Function(forward, weight=nn.Parameter(torch.randn(8, 6))), image(3, 6))
    operator, call = next(pair for pair in calls(program).values() if "weight" in pair[1].arguments)
    assert operator.then_affine(call, program.tensors, affine(8), 1) is None
    assert operator.after_affine(call, program.tensors, affine(6)) is None


def test_complex_weights_take_nothing() -> None:
    program = traced(nn.Sequential(conv(6, 8, padding=0)), image(3, 6, 8, 8))
    operator, call = only(program)
    tensors = {name: tensor.to(torch.complex128) for name, tensor in program.tensors.items()}
    assert operator.then_affine(call, tensors, affine(8), 1) is None
