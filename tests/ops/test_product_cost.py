"""Multiply-adds of products: by hand, beside torch's own counter, and in plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

import swdc
from swdc.ir.trace_options import FACTORS
from swdc.sparsity.planning.budgets import Budget
from tests.support import Function, image, random_plan, traced

Forward = Callable[..., torch.Tensor]


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def adaptive(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Mix nodes by a matrix that is computed from parameters, as graph WaveNet does."""
    return torch.einsum("bnc,nm->bmc", x, torch.softmax(m.a @ m.b, 1))


def spectrum(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Multiply spectra by complex weights, as a Fourier neural operator does."""
    return torch.view_as_real(torch.einsum("bix,iox->box", torch.fft.rfft(x), torch.view_as_complex(m.w)))


PRODUCTS: dict[str, tuple[Forward, dict[str, nn.Module | nn.Parameter], tuple[torch.Tensor, ...], int, int]] = {
    "transposed": (lambda m, x: x @ m.w.t(), {"w": weight(5, 4)}, (image(2, 3, 4),), 3 * 4 * 5, 3 * 4 * 5),
    "scores": (lambda m, x: x @ x.transpose(1, 2), {}, (image(2, 3, 4),), 3 * 4 * 3, 0),
    "left": (lambda m, x: m.w @ x, {"w": weight(7, 3)}, (image(2, 3, 4),), 7 * 3 * 4, 7 * 3 * 4),
    "heads": (lambda m, x: x[:, None] @ m.w, {"w": weight(6, 4, 5)}, (image(2, 3, 4),), 6 * 3 * 4 * 5, 6 * 3 * 4 * 5),
    "low rank": (
        lambda m, x: linear(x, m.a @ m.b), {"a": weight(5, 2), "b": weight(2, 4)}, (image(2, 4),),
        5 * 2 * 4 + 4 * 5, 4 * 5 + 5,
    ),
    "adaptive": (
        adaptive, {"a": weight(7, 2), "b": weight(2, 7)}, (image(2, 7, 3),), 7 * 2 * 7 + 7 * 7 * 3, 7 * 7 * 3
    ),
    "spectrum": (spectrum, {"w": weight(3, 6, 5, 2)}, (image(2, 3, 8),), 3 * 6 * 5, 3 * 6 * 5),
    "three factors": (
        lambda m, x, y: torch.einsum("bij,bjk,kl->bil", x, y, m.w), {"w": weight(5, 6)},
        (image(2, 3, 4), image(2, 4, 5)), 3 * 4 * 5 + 3 * 5 * 6, 3 * 5 * 6,
    ),
    "weights first": (
        lambda m, x, y: torch.einsum("kl,bjk,bij->bil", m.w, y, x), {"w": weight(5, 6)},
        (image(2, 3, 4), image(2, 4, 5)), 5 * 6 * 4 + 4 * 6 * 3, 5 * 6 * 4,
    ),
    "no sum": (lambda m, x: torch.einsum("bi,j->bij", x, m.w), {"w": weight(5)}, (image(2, 3),), 0, 0),
    "a sum in one factor": (
        lambda m, x: torch.einsum("bij,k->bk", x, m.w), {"w": weight(5)}, (image(2, 3, 4),), 0, 0
    ),
    "broadcast": (
        lambda m, x: torch.einsum("bnc,bmc->bnm", x, m.w), {"w": weight(1, 5, 4)}, (image(2, 3, 4),),
        3 * 5 * 4, 3 * 5 * 4,
    ),
    "inner": (lambda m, x: torch.inner(x, m.w), {"w": weight(5, 4)}, (image(2, 4),), 4 * 5, 4 * 5),
    "tensordot": (
        lambda m, x: torch.tensordot(x, m.w, dims=([1, 2], [1, 0])), {"w": weight(4, 3, 5)}, (image(2, 3, 4),),
        3 * 4 * 5, 3 * 4 * 5,
    ),
    "added": (lambda m, x: torch.baddbmm(x, x, x), {}, (image(2, 4, 4),), 4 * 4 * 4, 0),
    "fused": (lambda m, x: scaled_dot_product_attention(x, x, x), {}, (image(2, 3, 5, 8),), 2 * 3 * 5 * 5 * 8, 0),
    "causal": (
        lambda m, q, k: scaled_dot_product_attention(q, k, k[..., :2], is_causal=True), {},
        (image(2, 3, 5, 8), image(2, 3, 7, 8)), 3 * 5 * 7 * (8 + 2), 0,
    ),
    "shared keys": (
        lambda m, q, k: scaled_dot_product_attention(q, k, k, enable_gqa=True), {},
        (image(2, 6, 5, 8), image(2, 3, 7, 8)), 2 * 6 * 5 * 7 * 8, 0,
    ),
    "weight norm": (
        lambda m, x: m.a(x), {"a": nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))}, (image(2, 4),),
        4 * 5, 4 * 5 + 5,
    ),
}  # fmt: skip
"""What is computed, its modules and inputs, and for one sample the multiply-adds and the paper's operations."""


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_by_hand_and_by_the_counter_of_torch(name: str) -> None:
    forward, parts, inputs, macs, paper = PRODUCTS[name]
    model = Function(forward, **parts).double().eval()
    program = swdc.trace(model, inputs)
    assert (swdc.count(program).macs, swdc.count(program).operations) == (macs, paper)
    assert swdc.count(program, "reference").operations == paper
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    assert 2 * swdc.count(program, "macs", batch=2).macs == counter.get_total_flops()


@pytest.mark.parametrize(
    ("function", "inputs", "macs"),
    [
        (torch.addbmm, (image(3, 5), image(2, 3, 4), image(2, 4, 5)), 2 * 3 * 4 * 5),
        (torch.linalg.vecdot, (image(2, 3, 4), image(3, 4)), 2 * 3 * 4),
        (torch.mv, (image(3, 4), image(4)), 3 * 4),
        (torch.dot, (image(4), image(4)), 4),
        (torch.vdot, (image(4), image(4)), 4),
        (torch.linalg.matmul, (image(2, 3, 4), image(4, 5)), 2 * 3 * 4 * 5),
        (torch.outer, (image(4), image(5)), 0),
        (torch.ger, (image(4), image(5)), 0),
    ],
)
def test_products_that_the_counter_of_torch_leaves_out(function: Any, inputs: Any, macs: int) -> None:
    program = swdc.trace(Function(lambda m, *x: function(*x)).eval(), inputs)
    assert swdc.count(program, "macs", sizes=program.facts.symbols).macs == macs


def test_a_given_path_decides_which_factors_are_multiplied_first() -> None:
    inputs = (image(2, 3, 4), image(2, 4, 5), image(2, 5, 6))

    def forward(m: Any, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.ops.aten.einsum("bij,bjk,bkl->bil", [x, y, z], path=[1, 2, 0, 1])
        return found

    program = swdc.trace(Function(forward).eval(), inputs)
    assert swdc.count(program).macs == 4 * 5 * 6 + 3 * 4 * 6


def written(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (part(x).unflatten(-1, (4, 3)).transpose(1, 2) for part in (m.q, m.k, m.v))
    return m.out((torch.softmax(q @ k.transpose(-1, -2), -1) @ v).transpose(1, 2).flatten(2))


def merged(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Merge the heads into the batch, as bmm wants it."""
    q, k, v = (part(x).unflatten(-1, (4, 3)).transpose(1, 2).reshape(-1, 5, 3) for part in (m.q, m.k, m.v))
    mixed = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
    return m.out(mixed.reshape(-1, 4, 5, 3).transpose(1, 2).flatten(2))


def summed(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (part(x).unflatten(-1, (4, 3)) for part in (m.q, m.k, m.v))
    scores = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k), -1)
    return m.out(torch.einsum("bhij,bjhd->bihd", scores, v).flatten(2))


def fused(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (part(x).unflatten(-1, (4, 3)).transpose(1, 2) for part in (m.q, m.k, m.v))
    return m.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def grouped(m: Any, x: torch.Tensor) -> torch.Tensor:
    q = m.q(x).unflatten(-1, (4, 3)).transpose(1, 2)
    k, v = (part(x)[..., :6].unflatten(-1, (2, 3)).transpose(1, 2) for part in (m.k, m.v))
    return m.out(scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2))


def tied(m: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(m.q(x)) @ m.k.weight.t() @ m.out.weight.t()


@pytest.mark.parametrize("attention", FACTORS)
@pytest.mark.parametrize("forward", [written, merged, summed, fused, grouped, tied])
def test_the_cost_of_a_plan_is_the_count_of_the_slim_program(forward: Forward, attention: str) -> None:
    parts = {name: nn.Linear(12, 12) for name in ("q", "k", "v", "out")}
    program = swdc.trace(Function(forward, **parts).double().eval(), image(2, 5, 12), attention=attention)
    assert program.groups
    budgets = {kind: Budget(program, kind) for kind in ("macs", "operations", "parameters")}
    for seed in range(4):
        plan = random_plan(program, seed, least=0.05, most=1.0)
        widths = np.array([len(plan.kept[group.name]) for group in program.groups])
        counted = swdc.count(swdc.slim(program, plan))
        assert {kind: budget.cost(widths) for kind, budget in budgets.items()} == {
            "macs": counted.macs, "operations": counted.operations, "parameters": counted.parameters,
        }  # fmt: skip


def test_heads_go_and_their_products_with_them() -> None:
    parts = {name: nn.Linear(12, 12) for name in ("q", "k", "v", "out")}
    for forward in (written, merged, summed, fused):
        program = swdc.trace(Function(forward, **parts).double().eval(), image(2, 5, 12))
        (group,) = (group for group in program.groups if group.width == 4)
        layers, products = 4 * 5 * 12 * 12, 2 * 4 * 5 * 5 * 3
        assert swdc.count(program).macs == layers + products
        assert Budget(program, "macs").cost(np.array([1])) == (layers + products) // 4
        assert group.width == Budget(program, "channels").full


def test_a_convolution_with_computed_filters_counts_once() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, m.w * m.g)

    program = traced(Function(forward, w=weight(4, 3, 3, 3), g=weight(4, 1, 1, 1)), image())
    assert swdc.count(program).macs == 4 * 27 * 36
