"""Products in which each run of rows has a matrix of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import swdc
from tests.support import frozen_at, group_with, image, randomise

EXPERTS, CHOSEN, HIDDEN, INNER = 4, 2, 8, 16


class Mixture(nn.Module):
    """Experts as tensors of three dimensions, of which a router chooses two for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.router = nn.Linear(6, HIDDEN), nn.Linear(HIDDEN, EXPERTS)
        self.up = nn.Parameter(torch.randn(EXPERTS, HIDDEN, 2 * INNER))
        self.down = nn.Parameter(torch.randn(EXPERTS, INNER, HIDDEN))
        self.last = nn.Linear(HIDDEN, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        shares, chosen = torch.topk(torch.softmax(self.router(x), -1), CHOSEN)
        experts, order = torch.sort(chosen.reshape(-1))
        ends = torch.cumsum(F.one_hot(experts, EXPERTS).sum(0), 0).to(torch.int32)
        gate, up = F.grouped_mm(x[order // CHOSEN], self.up, offs=ends).chunk(2, -1)
        rows = F.grouped_mm(F.silu(gate) * up, self.down, offs=ends) * shares.reshape(-1)[order].unsqueeze(-1)
        return self.last(x.index_add(0, order // CHOSEN, rows))


@pytest.fixture(scope="module")
def model() -> Mixture:
    return randomise(Mixture()).float().eval()


@pytest.fixture(scope="module")
def program(model: Mixture) -> swdc.Program:
    return swdc.trace(model, image(5, 6).float())


def test_inner_and_outer_widths_go_and_experts_stay(program: swdc.Program) -> None:
    assert len(group_with(program, "down[1]").members) == len(group_with(program, "up[2]").members) > 1
    assert group_with(program, "first.weight[0]") == group_with(program, "up[1]")
    assert any("chooses matrices by their number" in found.reason.text for found in frozen_at(program, "up", 0))


def test_slim_is_masked_though_the_kernel_takes_no_float64(program: swdc.Program) -> None:
    plan = swdc.plan(program, 0.5, scope="group")
    slim = swdc.slim(program, plan)
    certificate = swdc.verify(swdc.mask(program, plan), slim)
    assert certificate.exact, certificate
    assert slim.tensors["up"].shape == (EXPERTS, HIDDEN // 2, INNER)
    assert slim.tensors["down"].shape == (EXPERTS, INNER // 2, HIDDEN // 2)


def test_each_row_costs_one_matrix(program: swdc.Program) -> None:
    dense = HIDDEN * (6 + EXPERTS + 3)
    assert swdc.count(program, sizes={"batch": 1}).macs == dense + CHOSEN * 3 * HIDDEN * INNER


def test_it_goes_into_the_users_class_and_to_onnx(model: Mixture, program: swdc.Program, tmp_path: Path) -> None:
    slim = swdc.slim(program, swdc.plan(program, 0.5, scope="group"))
    own = swdc.transplant(slim, model)
    x = image(7, 6, seed=3).float()
    torch.testing.assert_close(own(x), slim(x))
    assert swdc.export_onnx(slim, tmp_path / "slim.onnx").max_relative_error < 1e-5
