"""What operators say of their work: what onnxruntime runs for them, what goes into the layer before, their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swdc.ops import calls, lookup, shapes_of
from swdc.ops.base import family_of
from swdc.ops.call_cost import Use
from tests.support import Function, conv, image, traced

Example = Callable[..., torch.Tensor]


def run(function: Example, *inputs: torch.Tensor, **modules: nn.Module) -> list[Use]:
    """Return what onnxruntime runs for the first operator of a traced function."""
    program = traced(Function(lambda m, *args: function(m, *args), **modules), *inputs)
    shape_of = shapes_of(program, program.facts.sizes(2))
    operator, call = next(iter(calls(program).values()))
    return list(operator.lower(call, shape_of))


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lambda m, x: x.relu(), ["Add"]),
        (lambda m, x: x.exp(), ["Sigmoid"]),
        (lambda m, x: x + x, ["Add"]),
        (lambda m, x: x.softmax(-1), ["Softmax"]),
        (lambda m, x: F.layer_norm(x, (8,)), ["LayerNormalization"]),
        (lambda m, x: x.transpose(2, 3), ["Transpose"]),
        (lambda m, x: x.swapaxes(2, 3), ["Transpose"]),
        (lambda m, x: x.chunk(2, -1)[0], ["Transpose"]),
        (lambda m, x: torch.cat([x, x], 1), ["Transpose"]),
        (lambda m, x: x.flatten(1), []),
        (lambda m, x: x.unsqueeze(1), []),
        (lambda m, x: x[:, :2], []),
        (lambda m, x: x.double(), []),
        (lambda m, x: F.max_pool2d(x, 2), ["MaxPool"]),
        (lambda m, x: F.avg_pool2d(x, 2), ["AveragePool"]),
        (lambda m, x: F.adaptive_avg_pool2d(x, 1), ["GlobalAveragePool"]),
        (lambda m, x: F.adaptive_avg_pool2d(x, 2), ["AveragePool"]),
        (lambda m, x: F.adaptive_max_pool2d(x, 2), ["Add"]),
        (lambda m, x: F.max_pool3d(x, 2), ["Add"]),
        (lambda m, x: F.interpolate(x, scale_factor=2.0), ["Add"]),
        (lambda m, x: x @ x, ["MatMul"]),
        (lambda m, x: F.scaled_dot_product_attention(x, x, x), ["MatMul", "Softmax", "MatMul"]),
    ],
)
def test_what_runs_for_an_operator(function: Example, kinds: list[str]) -> None:
    assert [use.operator for use in run(function, image(2, 4, 8, 8))] == kinds


@pytest.mark.parametrize(
    ("layer", "example", "kind"),
    [
        (conv(3, 4), image(2, 3, 8, 8), "Conv"),
        (nn.Conv1d(4, 4, 3, padding="same", groups=4), image(2, 4, 8), "DepthwiseConv"),
        (nn.ConvTranspose3d(4, 2, 2, 2), image(2, 4, 3, 3, 3), "ConvTranspose"),
        (nn.Linear(8, 3), image(2, 4, 8), "Gemm"),
        (nn.BatchNorm1d(4), image(2, 4, 8), "Add"),
    ],
)
def test_what_runs_for_a_layer(layer: nn.Module, example: torch.Tensor, kind: str) -> None:
    (use,) = run(lambda m, x: m.layer(x), example, layer=layer)
    assert use.operator == kind
    if "Conv" in kind:
        rank = example.dim() - 2
        options = dict(use.options)
        assert [len(options[name]) for name in ("kernel", "strides", "pads")] == [rank, rank, 2 * rank]  # type: ignore[arg-type]


def test_a_deformable_convolution_is_timed_as_a_dense_layer() -> None:
    ops = pytest.importorskip("torchvision.ops")

    def deformed(m: Any, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = m.layer(x, torch.zeros(len(x), 18, 6, 6).to(x))
        return result

    program = traced(Function(deformed, layer=ops.DeformConv2d(3, 4, 3)), image(2, 3, 8, 8))
    shape_of = shapes_of(program, program.facts.sizes(2))
    found = [o.lower(c, shape_of) for o, c in calls(program).values() if family_of(c.operator) == "deform_conv2d"]
    assert [use.operator for uses in found for use in uses] == ["Gemm"]


def test_what_goes_into_the_layer_before() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.GELU(), nn.Flatten()))
    found = [(operator.absorbs, operator.is_absorbed(call)) for operator, call in calls(program).values()]
    assert found == [(True, False), (False, True), (False, True), (False, False), (False, False)]


def test_names_in_reports() -> None:
    assert family_of("aten.conv2d.padding") == family_of("aten.conv_transpose1d.default") == "convolution"
    assert family_of("aten.convolution.default") == "convolution"
    assert family_of("aten._native_batch_norm_legit_no_training.default") == "linear"
    assert family_of("aten.addmm.default") == "addmm"
    assert family_of("torchvision.deform_conv2d.default") == "deform_conv2d"


def test_an_unknown_operator_costs_what_it_reads() -> None:
    assert lookup("nothing.of.this").timed_as == "Add"
    assert [use.operator for use in run(lambda m, x: torch.special.bessel_j0(x), image(2, 4))] == ["Add"]
