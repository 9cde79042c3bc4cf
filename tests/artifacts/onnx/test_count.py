"""Multiply-adds counted in ONNX files, beside those counted in programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torchvision
from onnx import TensorProto, helper
from torch import nn

import swdc
from swdc.artifacts.onnx.count import MacsCheck, check_macs
from swdc.artifacts.onnx.node_macs import count_nodes
from swdc.networks import resnet20
from tests.support import randomise


def checked(model: nn.Module, example: Any, folder: Path, **options: Any) -> MacsCheck:
    """Return the check of a model's file; its differences add up, whatever they are."""
    program = swdc.trace(randomise(model).float().eval(), example)
    path = swdc.export_onnx(program, folder / "net.onnx", batches=(2,), **options).path
    found = check_macs(program, path)
    assert found.difference == found.macs - swdc.count(program).macs
    assert sum(difference.macs for difference in found.explanation) == found.difference
    return found


@pytest.mark.parametrize(
    "build",
    [
        lambda: resnet20(width=8),
        lambda: torchvision.models.mobilenet_v2(
            width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]
        ),
    ],
    ids=["resnet20", "mobilenet_v2"],
)
def test_convolutional_networks_agree(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    found = checked(build(), torch.randn(1, 3, 32, 32), tmp_path)
    assert found.macs > 1_000_000
    assert (found.difference, found.explanation) == (0, ())


def test_a_transformer_agrees(tmp_path: Path) -> None:
    model = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16, num_classes=3
    )
    found = checked(model, torch.randn(1, 3, 16, 16), tmp_path)
    assert found.macs > 2 * 2 * 5 * 5 * 12  # blocks, products, positions twice, width
    assert (found.difference, found.explanation) == (0, ())


def test_products_that_the_file_adds_are_told(tmp_path: Path) -> None:
    path = swdc.export_onnx(swdc.trace(nn.Linear(4, 3), torch.randn(2, 4)), tmp_path / "net.onnx").path
    found = check_macs(swdc.trace(nn.ReLU(), torch.randn(2, 4)), path)
    assert (found.macs, found.difference) == (12, 12)
    assert "multiplies, where swdc.count gives this operator no multiply-adds" in str(found.explanation[0])


def test_the_attention_operator_of_later_sets_counts_the_same(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    example = (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6))
    found = [checked(Attention(), example, tmp_path, opset=opset) for opset in (20, 23)]
    assert [each.macs for each in found] == [3 * 5 * 7 * (4 + 6)] * 2
    assert [each.explanation for each in found] == [(), ()]


def test_a_graph_network_is_counted_at_the_size_of_its_example(gcn: Any, tmp_path: Path) -> None:
    edges = torch.randint(0, 9, (2, 20))
    found = checked(gcn(6, 8, 2, 4), (torch.randn(9, 6), edges), tmp_path)
    assert found.macs == 9 * (6 * 8 + 8 * 4)
    assert found.explanation == ()


def test_recurrent_and_transposed_layers_agree(tmp_path: Path) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
            self.up = nn.ConvTranspose1d(12, 4, 3, stride=2, groups=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(self.lstm(x)[0].transpose(1, 2))

    found = checked(Mixed(), torch.randn(2, 5, 4), tmp_path)
    assert found.macs == 5 * 2 * 4 * 6 * (4 + 6) + 5 * 12 * (4 // 2) * 3
    assert found.explanation == ()


def test_what_the_file_holds_as_a_constant_is_told(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.dense = nn.Parameter(torch.randn(3, 4)), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.dense(self.table).sum(0)

    found = checked(Constant(), torch.randn(2, 4), tmp_path)
    assert (found.macs, found.difference) == (0, -48)
    assert str(found.explanation[0]) == (
        "-48 of linear: swdc.count has it, but the file computes it by other operators or holds its result as constant"
    )


def test_a_file_of_other_multiply_adds_is_told(tmp_path: Path) -> None:
    program = swdc.trace(nn.Linear(4, 4), torch.randn(2, 4))
    path = swdc.export_onnx(swdc.trace(nn.Linear(4, 3), torch.randn(2, 4)), tmp_path / "net.onnx").path
    found = check_macs(program, path)
    assert (found.macs, found.difference) == (12, -4)
    assert "does not have the 16 multiply-adds that swdc.count gives this operator" in str(found.explanation[0])


def _model(nodes: list[Any], inputs: dict[str, list[Any]], weights: dict[str, list[int]]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    tensors = [
        helper.make_tensor(name, TensorProto.FLOAT, dims, [1.0] * torch.Size(dims).numel())
        for name, dims in weights.items()
    ]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_model(
        helper.make_graph(nodes, "graph", values, [output], tensors), opset_imports=[helper.make_opsetid("", 20)]
    )


@pytest.mark.parametrize(
    ("node", "shapes", "macs"),
    [
        (helper.make_node("Gemm", "x w".split(), ["y"], transA=1, transB=1), ([5, 2], [3, 5]), 2 * 3 * 5),
        (helper.make_node("MatMul", "x w".split(), ["y"]), ([2, 6, 4, 5], [5, 3]), 2 * 6 * 4 * 3 * 5),
        (helper.make_node("MatMul", "x w".split(), ["y"]), ([5], [5, 3]), 15),
        (helper.make_node("Einsum", "x w".split(), ["y"], equation="...ij, kj -> ...ik"), ([2, 4, 5], [3, 5]), 120),
        (helper.make_node("Einsum", ["x"], ["y"], equation="ij->ji"), ([4, 5], [1]), 0),
        (helper.make_node("Conv", "x w".split(), ["y"], group=2, strides=[2, 2]), ([1, 4, 9, 9], [6, 2, 3, 3]), 1728),
    ],
)  # fmt: skip
def test_rules_of_single_nodes(node: Any, shapes: tuple[list[int], list[int]], macs: int, tmp_path: Path) -> None:
    dims: list[Any] = [f"size{number}" for number in range(len(shapes[0]))]
    onnx.save(_model([node], {"x": dims}, {"w": shapes[1]}), tmp_path / "one.onnx")
    (found,) = count_nodes(tmp_path / "one.onnx", {"x": tuple(shapes[0])})
    assert (found.operator, found.macs) == (node.op_type, macs)


def test_shapes_that_stay_open_are_told_and_not_guessed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "floats"], ["y"], name="open"),
    ]
    onnx.save(_model(nodes, {"x": ["n", 3]}, {"w": [4, 2]}), tmp_path / "open.onnx")
    assert [node.macs for node in count_nodes(tmp_path / "open.onnx", {"x": (2, 3)})] == [None]
    found = check_macs(swdc.trace(nn.ReLU(), torch.randn(2, 3)), tmp_path / "open.onnx")
    assert (found.macs, found.difference) == (0, 0)
    assert "shape inference leaves open what MatMul open reads" in str(found.explanation[0])
