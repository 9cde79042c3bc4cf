"""Criteria, computed again by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.sparsity.criteria import CRITERIA, find_criterion, gamma, l1, l2
from swdc.sparsity.gains import deciding_norms
from tests.support import Function, conv, image, traced


def test_l2_and_l1_by_hand() -> None:
    program = traced(nn.Sequential(conv(3, 6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 2)))
    weight, bias, read = (program.get_parameter(n).detach() for n in ("0.weight", "0.bias", "3.weight"))
    every = torch.cat([weight.flatten(1), bias[:, None], read.view(2, 6, 64).transpose(0, 1).flatten(1)], 1)
    for criterion, norm in ((l2, every.norm(dim=1)), (l1, every.abs().sum(1))):
        (scores,) = criterion(program, program.groups)
        assert np.allclose(scores, (norm / norm.mean()).numpy(), rtol=1e-12)


def test_statistics_and_whole_numbers_do_not_score() -> None:
    keep = torch.tensor([[[1]], [[0]], [[1]], [[1]]])
    model = Function(lambda m, x: m.d(m.n(m.c(x) * m.keep)), c=conv(3, 4), n=nn.BatchNorm2d(4), d=conv(4, 2), keep=keep)
    program = traced(model)
    (before,) = l2(program, program.groups)
    with torch.no_grad():
        program.get_buffer("n.running_var").mul_(100)
        program.get_buffer("keep").mul_(7)
    assert np.array_equal(before, l2(program, program.groups)[0])


def test_gamma_by_hand() -> None:
    program = traced(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 4), nn.ReLU(), conv(4, 2)))
    with torch.no_grad():
        program.get_parameter("1.weight").neg_()
    first, second = gamma(program, program.groups)
    assert np.allclose(first, program.get_parameter("1.weight").detach().abs().numpy())
    assert second is None


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn0, self.conv1, self.bn1 = conv(3, 6), nn.BatchNorm2d(6), conv(6, 6), nn.BatchNorm2d(6)
        self.conv2, self.bn2, self.bn3, self.head = conv(6, 6), nn.BatchNorm2d(6), nn.BatchNorm2d(6), conv(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn0(self.stem(x)))
        z = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(y)))))
        result: torch.Tensor = self.head(torch.relu(self.bn3(y + z)))
        return result


def test_a_norm_that_the_next_one_overrules_does_not_decide() -> None:
    program = traced(Block())
    assert deciding_norms(program) == ["bn0", "bn1", "bn3"]
    shared = next(s for g, s in zip(program.groups, gamma(program, program.groups), strict=True) if g.name == "stem")
    by_hand = (program.get_parameter("bn0.weight").abs() + program.get_parameter("bn3.weight").abs()) / 2
    assert np.allclose(shared, by_hand.detach().numpy())


def test_without_a_norm_behind_the_sum_both_sides_decide() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(m.n(m.a(x)) + m.o(m.b(x))))

    parts = {"a": conv(3, 4), "b": conv(3, 4), "n": nn.BatchNorm2d(4), "o": nn.BatchNorm2d(4), "d": conv(4, 2)}
    program = traced(Function(forward, **parts))
    assert sorted(deciding_norms(program)) == ["n", "o"]
    assert deciding_norms(swdc.insert_batchnorm(program)) == ["sum_batchnorm"]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_dead_channels_score_zero_and_scale_does_not_matter_between_groups(criterion: str) -> None:
    program = traced(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 2)))
    with torch.no_grad():
        for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
            program.get_parameter(name)[2] = 0
        program.get_parameter("3.weight")[:, 2] = 0
    (scores,) = find_criterion(criterion)(program, program.groups)
    assert scores is not None
    assert scores.argmin() == 2
    assert scores[2] == 0
    assert swdc.plan(program, 1 / 6, criterion=criterion).kept["0"] == (0, 1, 3, 4, 5)


def test_a_group_of_zeros_scores_zero_without_a_warning() -> None:
    program = traced(nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 2)))
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.zero_()
    assert np.array_equal(l2(program, program.groups)[0], np.zeros(6))


def test_a_function_is_a_criterion() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)), image(2, 5))
    plan = swdc.plan(program, 0.5, criterion=lambda _, groups: [np.arange(g.width, dtype=float) for g in groups])
    assert plan.kept["0"] == (3, 4, 5)
    with pytest.raises(PlanError, match="or a function of program and groups, got 'none'"):
        find_criterion("none")
