"""Masks: zero at everything that writes a removed channel, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import swdc
from passes.mask_channels import MaskChannels
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.rewriting.pipeline import run
from tests.support import assert_equal, conv, image, plan_of, text, traced


def network() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.PReLU(4), conv(4, 2))


def values(program: Program) -> str:
    """Return which positions of each parameter and statistic are zero throughout, as rows of 0 and 1."""
    lines = []
    for name, tensor in program.tensors.items():
        for dim in range(tensor.dim()):
            other = [d for d in range(tensor.dim()) if d != dim]
            alive = (tensor != 0).any(dim=other) if other else tensor != 0
            lines.append(f"{name}[{dim}]: {''.join(str(int(a)) for a in alive.reshape(-1))}")
    return "\n".join(lines) + "\n"


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(network())
    masked = swdc.mask(program, plan_of(program, {"0": [0, 2]}))
    golden("mask_channels.before", text(program) + "\nalive\n" + values(program))
    golden("mask_channels.after", text(masked) + "\nalive\n" + values(masked))


def test_what_is_zero_and_what_stays() -> None:
    program = traced(network())
    before = {name: tensor.clone() for name, tensor in program.tensors.items()}
    result = run(program, [MaskChannels(plan_of(program, {"0": [0, 2]}))])
    assert result.modified
    masked = result.program.tensors
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert masked[name][[1, 3]].count_nonzero() == 0
        assert torch.equal(masked[name][[0, 2]], before[name][[0, 2]])
    for name in ("1.running_mean", "1.running_var", "2.weight", "3.weight", "3.bias"):
        assert torch.equal(masked[name], before[name])
    assert_equal(list(program.tensors.values()), list(before.values()))


def test_no_tensor_is_shared() -> None:
    program = traced(network())
    masked = swdc.mask(program, plan_of(program, {"0": [0]}))
    mine = {t.data_ptr() for t in program.tensors.values()}
    assert not mine & {t.data_ptr() for t in masked.tensors.values()}
    assert masked.hash() == program.hash()
    assert masked.training == program.training


def test_a_plan_that_removes_nothing_modifies_nothing() -> None:
    program = traced(network())
    result = run(program, [MaskChannels(plan_of(program, {}))])
    assert not result.modified
    assert_equal(program(image()), result.program(image()))


def test_groups_that_a_plan_does_not_name_are_kept() -> None:
    program = traced(network())
    plan = swdc.Plan({}, {}, program.hash())
    assert_equal(swdc.mask(program, plan)(image()), program(image()))


def test_tied_tensors_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.c(torch.relu(self.b(torch.relu(self.a(torch.relu(self.c(x)))))))
            return y

    program = traced(Tied(), image(2, 4))
    masked = swdc.mask(program, swdc.Plan({}, {}, program.hash()))
    assert masked.tensors["a.weight"] is masked.tensors["b.weight"]


def test_a_plan_of_another_program() -> None:
    one, other = traced(network()), traced(nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2)))
    with pytest.raises(PlanError, match=r"expected a plan of this program .* make the plan from the program"):
        swdc.mask(one, plan_of(other, {}))
