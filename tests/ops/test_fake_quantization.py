"""Fake quantisation: filters go with their scales and zero points, which the kernel takes in float32 alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.ops.base import lookup, name_of
from tests.support import Function, conv, image, random_plan, randomise, reason_at


class Quantised(nn.Module):
    """A convolution with a grid for each filter, and one for its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.register_buffer("scale", torch.rand(outputs) / 50 + 0.01)
        self.register_buffer("zero_point", torch.randint(-5, 5, (outputs,), dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.02, 3, 0, 255)
        weight = torch.fake_quantize_per_channel_affine(self.conv.weight, self.scale, self.zero_point, 0, -127, 127)  # type: ignore[arg-type]
        return F.conv2d(x, weight, self.conv.bias, padding=1)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = Quantised(3, 16), Quantised(16, 16), Quantised(16, 12)
        self.out = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x).relu()
        x = x + self.two(x).relu()
        return self.out(self.three(x).relu().mean((2, 3)))


def test_filters_go_with_their_grids() -> None:
    model = Network().eval()
    scales = {name: buffer.clone() for name, buffer in model.named_buffers()}
    randomise(model).float()
    model.load_state_dict(scales, strict=False)
    program = swdc.trace(model, torch.rand(2, 3, 10, 10))
    assert program.facts.captured_by == "follow"
    plan = random_plan(program)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, str(certificate)
    assert torch.equal(masked.get_buffer("one.scale"), scales["one.scale"])
    kept = slim.get_buffer("one.scale").shape[0]
    assert kept == slim.get_buffer("one.zero_point").shape[0] == slim.get_parameter("one.conv.weight").shape[0] < 16


def test_a_zero_point_with_a_fraction_moves_zero() -> None:
    grid = {"s": torch.full((6,), 0.1), "z": torch.full((6,), 0.3)}
    quantise = torch.fake_quantize_per_channel_affine
    model = Function(lambda m, x: m.d(quantise(m.c(x), m.s, m.z, 1, -8, 7)), c=conv(3, 6), d=conv(6, 2), **grid)
    assert "not a constant" in reason_at(swdc.trace(model.eval(), image().float()), "c.weight", 0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_grid_that_is_learnt_keeps_zero(per_channel: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x).relu()
        if per_channel:
            y = torch._fake_quantize_learnable_per_channel_affine(y, m.s, m.z, 1, 0, 255, 1.0)
        else:
            y = torch._fake_quantize_learnable_per_tensor_affine(y, m.s, m.z, 0, 255, 1.0)
        return m.d(y)

    size = 6 if per_channel else 1
    grid = {"s": nn.Parameter(torch.rand(size) / 9 + 0.1), "z": nn.Parameter(torch.rand(size) * 9)}
    model = Function(forward, c=conv(3, 6), d=conv(6, 2), **grid).eval()
    program = swdc.trace(model, image().float())
    assert [group.width for group in program.groups] == [6]
    plan = random_plan(program)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, str(certificate)
    assert slim.tensors["s"].shape == slim.tensors["z"].shape == ((len(plan.kept["c"]),) if per_channel else (1,))


@pytest.mark.parametrize(("zero_point", "groups"), [(7, 1), (300, 0)])
def test_a_grid_that_tensors_hold(zero_point: int, groups: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.fake_quantize_per_tensor_affine(m.c(x).relu(), m.s, m.z, 0, 255))

    grid = {"s": torch.tensor(0.1), "z": torch.tensor(zero_point, dtype=torch.int32)}
    program = swdc.trace(Function(forward, c=conv(3, 6), d=conv(6, 2), **grid).eval(), image().float())
    assert len(program.groups) == groups
    if groups:
        plan = random_plan(program)
        assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)).exact


def test_everyday_operators_compute_the_same_grid() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(3, 400), (torch.arange(400.0) - 200)[None].expand(3, -1) * 0.05], 1)  # with halves
    step, point = torch.tensor([0.1, 0.02, 0.5]), torch.tensor([0, 7, -3], dtype=torch.int32)
    fraction = torch.tensor([0.3, -1.5, 2.5])
    cases: list[tuple[Any, tuple[Any, ...]]] = [
        (torch.ops.aten.fake_quantize_per_tensor_affine.default, (x, 0.1, 3, -7, 100)),
        (torch.ops.aten.fake_quantize_per_tensor_affine.tensor_qparams, (x, step[0], point[1], -7, 100)),
        (torch.ops.aten.fake_quantize_per_channel_affine.default, (x, step, point, 0, -128, 127)),
        (torch.ops.aten._fake_quantize_learnable_per_tensor_affine.default, (x, step[:1], fraction[2:], -8, 7)),
        (torch.ops.aten._fake_quantize_learnable_per_channel_affine.default, (x, step, fraction, 0, -1, 127)),
    ]
    for target, args in cases:
        function = lookup(name_of(target)).plainly(target)
        assert function is not None
        names = [argument.name for argument in target._schema.arguments]
        assert torch.equal(function(**dict(zip(names, args, strict=False))), target(*args)), target
    target = torch.ops.aten.fake_quantize_per_channel_affine.default
    got = lookup(name_of(target)).plainly(target)(x, step, fraction, -128, 127, 0)  # type: ignore[misc]
    assert torch.allclose(got, target(x, step, fraction, 0, -128, 127), rtol=1e-6, atol=1e-6)  # the kernel rounds once


def test_a_quantised_network_goes_to_onnx(tmp_path: Path) -> None:
    model = Network().eval()
    scales = {name: buffer.clone() for name, buffer in model.named_buffers()}
    randomise(model).float().load_state_dict(scales, strict=False)
    program = swdc.trace(model, torch.rand(2, 3, 10, 10))
    slim = swdc.slim(program, random_plan(program))
    report = swdc.export_onnx(slim, tmp_path / "quantised.onnx")
    assert report.batches == (1, 3)
    assert report.max_relative_error < 1e-4
