"""Products that sum over dimensions, of activations and of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import Function, assert_slims, image, members, reason_at, traced

DENSE: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "matmul": lambda m, y: y @ m.w,
    "mm": lambda m, y: torch.mm(y, m.w),
    "from the left": lambda m, y: (m.v @ y.t()).t(),
    "addmm": lambda m, y: torch.addmm(m.b, y, m.w),
    "einsum": lambda m, y: torch.einsum("nk, km -> nm", y, m.w),
    "implicit einsum": lambda m, y: torch.einsum("nk,km", y, m.w).t(),
    "einsum with an ellipsis": lambda m, y: torch.einsum("...k,km->...m", y, m.w),
    "tensordot": lambda m, y: torch.tensordot(y, m.w, dims=([1], [0])),
    "baddbmm": lambda m, y: torch.baddbmm(m.b, y[None], m.w[None])[0],
    "baddbmm without beta": lambda m, y: torch.baddbmm(m.b[None, None], y[None], m.w[None], beta=0)[0],
}


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_layer_by_hand(name: str) -> None:
    parts = {
        "a": nn.Linear(5, 6), "w": nn.Parameter(torch.randn(6, 7)), "v": nn.Parameter(torch.randn(7, 6)),
        "b": nn.Parameter(torch.randn(7)), "c": nn.Linear(7, 2),
    }  # fmt: skip
    model = Function(lambda m, x: m.c(torch.relu(DENSE[name](m, torch.relu(m.a(x))))), **parts)
    program = assert_slims(model, image(3, 5))
    read = "v[1]" if name == "from the left" else "w[0]"
    assert {"a.weight[0]", "a.bias[0]", read} in members(program)
    assert len(program.groups) == 2


def test_vectors() -> None:
    parts = {"a": nn.Linear(5, 6), "u": nn.Parameter(torch.randn(6)), "c": nn.Linear(1, 2)}
    program = assert_slims(Function(lambda m, x: m.c((torch.relu(m.a(x)) @ m.u)[:, None]), **parts), image(3, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "u[0]"}]


def test_a_product_of_two_branches_sums_over_what_is_dead_in_either() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        left, right = torch.sigmoid(m.a(x)), torch.relu(m.b(x))
        return m.c(torch.bmm(left.view(-1, 3, 6), right.view(-1, 6, 4)).flatten(1))

    parts = {"a": nn.Linear(5, 18), "b": nn.Linear(5, 24), "c": nn.Linear(12, 2)}
    program = assert_slims(Function(forward, **parts), image(2, 5))
    assert any({"a.weight[0]", "b.weight[0]"} <= group for group in members(program))


def test_a_constant_that_is_summed_over_is_frozen() -> None:
    parts = {"a": nn.Linear(5, 6), "w": nn.Parameter(torch.randn(6, 7)), "c": nn.Linear(7, 2)}
    program = traced(Function(lambda m, x: m.c(torch.sigmoid(m.a(x)) @ m.w), **parts), image(3, 5))
    assert "not a constant that can be folded" in reason_at(program, "a.weight", 0)


def test_the_products_of_all_pairs_of_channels_are_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.c(torch.einsum("npi,npj->nij", y, y).flatten(1))

    program = traced(Function(forward, a=nn.Linear(5, 4), c=nn.Linear(16, 2)), image(2, 3, 5))
    assert "along another factor" in reason_at(program, "a.weight", 0)


def test_a_tied_weight_that_reads_and_writes_is_masked() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.c(torch.relu(F.linear(torch.relu(F.linear(torch.relu(m.a(x)), m.w)), m.w.t())))

    parts = {"a": nn.Linear(5, 6), "w": nn.Parameter(torch.randn(7, 6)), "c": nn.Linear(6, 2)}
    program = assert_slims(Function(forward, **parts), image(3, 5))
    assert {"writes", "reads"} <= {r for g in program.groups for m in g.members if m.tensor == "w" for r in m.roles}
