"""What onnxruntime runs for programs: layers, their sizes at all widths, and what costs nothing."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.costs.latency import LatencyTable
from swdc.costs.latency.lowering import uses
from swdc.ir.program import Program
from swdc.ops import shapes_of
from swdc.ops.call_cost import Quotient
from swdc.sparsity.planning.latency import Latency
from tests.support import Function, conv, image, random_plan, traced

Found = list[tuple[str, tuple[int, ...]]]


def lowered(program: Program, batch: int = 1) -> Found:
    """Return each operator with its sizes."""
    shape_of = shapes_of(program, program.facts.sizes(batch))

    def value(size: Quotient) -> int:
        above, below = (prod(shape_of(v)[d] for v, d in dims) for dims in (size.dims, size.over))
        return size.coefficient * above // below

    return [(use.operator, tuple(map(value, use.sizes))) for use in uses(program, shape_of)]


def test_what_goes_into_a_convolution_costs_nothing() -> None:
    def block(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        return m.head((x + m.branch(x)).relu().mean((2, 3)))  # type: ignore[no-any-return]

    stem, branch = (nn.Sequential(conv(n, 8), nn.BatchNorm2d(8), nn.ReLU()) for n in (3, 8))
    program = traced(Function(block, stem=stem, branch=branch, head=nn.Linear(8, 2)))
    assert lowered(program) == [("Conv", (1, 3, 8)), ("Conv", (1, 8, 8)), ("Add", (512,)), ("Gemm", (1, 8, 2))]


def test_a_batch_norm_before_a_convolution_costs_what_it_reads() -> None:
    model = nn.Sequential(conv(3, 8), nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4))
    assert lowered(traced(model)) == [
        ("Conv", (1, 3, 8)), ("MaxPool", (8,)), ("Add", (128,)), ("Add", (128,)), ("Conv", (1, 8, 4))
    ]  # fmt: skip


def test_groups_pools_and_transposed_convolutions() -> None:
    model = nn.Sequential(
        conv(3, 8), conv(8, 8, groups=8), conv(8, 12, groups=4), nn.AvgPool2d(2),
        nn.ConvTranspose2d(12, 6, 2, 2, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip
    assert lowered(traced(model)) == [
        ("Conv", (1, 3, 8)), ("DepthwiseConv", (8,)), ("Conv", (4, 2, 3)), ("AveragePool", (12,)),
        ("ConvTranspose", (3, 4, 2)), ("GlobalAveragePool", (6,)), ("Gemm", (1, 6, 2)),
    ]  # fmt: skip


def test_attention_is_its_products_and_the_batch_counts() -> None:
    def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in m.qkv)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        scores = (q @ k.transpose(2, 3)).softmax(-1) @ v
        result: torch.Tensor = m.norm((mixed + scores).transpose(1, 2).flatten(2))
        return result

    model = Function(attend, qkv=nn.ModuleList(nn.Linear(5, 8) for _ in range(3)), norm=nn.LayerNorm(8))
    found = lowered(traced(model, image(2, 7, 5)), batch=3)
    assert found.count(("Gemm", (21, 5, 8))) == 3
    assert found.count(("MatMul", (6, 7, 4, 7))) == 2
    assert found.count(("MatMul", (6, 7, 7, 4))) == 2
    assert found.count(("Softmax", (6 * 7 * 7,))) == 2
    assert found.count(("LayerNormalization", (3 * 7 * 8,))) == 1


def test_recurrent_layers_are_dense_layers_of_their_steps() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.head(self.cells(x)[0][:, -1])
            return result

    found = lowered(traced(Last(), image(2, 4, 5)))
    assert sum(prod(sizes) for operator, sizes in found if operator == "Gemm") >= 4 * 24 * (5 + 6)


@pytest.mark.parametrize("seed", range(3))
def test_sizes_follow_the_widths_as_the_slim_program_has_them(seed: int) -> None:
    model = nn.Sequential(
        conv(3, 8), nn.ReLU(), conv(8, 8, groups=8), nn.SiLU(), conv(8, 12, groups=4), nn.ReLU(),
        nn.ConvTranspose2d(12, 6, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 256, 9), nn.ReLU(), nn.Linear(9, 2),
    )  # fmt: skip
    program = traced(model)
    plan = random_plan(program, seed)
    assert _predicted(program, plan) == _predicted(swdc.slim(program, plan), None)


def _predicted(program: Program, plan: Any) -> Any:
    class Recorded(LatencyTable):
        def __init__(self) -> None:
            self.found: list[tuple[str, tuple[int, ...]]] = []

        def ms(self, layer: Any, sizes: tuple[int, ...]) -> float:
            self.found.append((layer.operator, sizes))
            return 1.0

    table = Recorded()
    full = np.array([group.width for group in program.groups])
    widths = full if plan is None else np.array([len(plan.kept[group.name]) for group in program.groups])
    Latency(program, table, np.ones_like(full)).cost(widths)
    return table.found
