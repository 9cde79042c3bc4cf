"""Folding: the constant of a dead channel goes into the bias of the layer that sums over it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import swdc
from passes.eliminate_dead_channels import EliminateDeadChannels
from passes.fold_constant_channels import FoldConstantChannels
from swdc.errors import PassError
from swdc.rewriting.pipeline import run
from tests.support import Function, assert_same, certified, conv, image, plan_of, text, traced

X = image(2, 5)


def network(bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 2, bias=bias))


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(network(bias=False), X)
    folded = run(program, [FoldConstantChannels(plan_of(program, {"0": [0, 2]}))]).program
    golden("fold_constant_channels.before", text(program))
    golden("fold_constant_channels.after", text(folded))


@pytest.mark.parametrize("bias", [True, False])
def test_the_bias_takes_over_what_dead_channels_add(bias: bool) -> None:
    program = traced(network(bias), X)
    plan = plan_of(program, {"0": [0, 2]})
    result = run(program, [FoldConstantChannels(plan)])
    assert result.modified
    before = program.get_parameter("2.bias") if bias else torch.zeros(2, dtype=torch.float64)
    share = program.get_parameter("2.weight")[:, [1, 3]].sum(1) / 2
    assert_same(before + share, result.program.get_parameter("2.bias"), 1e-14)
    assert torch.equal(result.program.get_parameter("2.weight"), program.get_parameter("2.weight"))
    assert ("2.bias" in program.state_dict()) == bias  # the given program is as it was


def test_folded_and_cut_equals_masked() -> None:
    program = traced(network(), X)
    masked, slim = certified(program, plan_of(program, {"0": [3]}))
    assert_same(masked(image(7, 5)), slim(image(7, 5)), 1e-13)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    ],
)
def test_where_there_is_no_constant_the_given_program_comes_back(model: nn.Module) -> None:
    program = traced(model, X)
    result = run(program, [FoldConstantChannels(plan_of(program, {"0": [0]}))])
    assert result.program is program
    assert not result.modified


def test_a_plan_that_removes_nothing_folds_nothing() -> None:
    program = traced(network(), X)
    result = run(program, [FoldConstantChannels(plan_of(program, {}))])
    assert (result.program is program, result.modified) == (True, False)


def test_a_bias_made_for_a_function_call() -> None:
    parts = {"w": nn.Parameter(torch.randn(2, 4))}
    model = Function(lambda m, x: nn.functional.linear(torch.sigmoid(m.a(x)), m.w), a=nn.Linear(5, 4), **parts)
    program = traced(model, X)
    _, slim = certified(program)
    assert len(slim.state_dict()) == 4
    unused = [n.name for n in slim.graph.nodes if n.op == "get_attr" and not n.users]
    assert unused == []


def test_what_does_not_learn_still_does_not() -> None:
    model = network()
    model[2].requires_grad_(False)
    program = traced(model, X)
    _, slim = certified(program)
    assert not slim.get_parameter("2.bias").requires_grad
    assert slim.get_parameter("0.weight").requires_grad


def test_a_bias_in_float32_is_rounded_once_and_still_certified() -> None:
    program = swdc.trace(network().eval(), X.float())
    plan = plan_of(program, {"0": [0, 3]})
    assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)).exact


def test_a_convolution_sums_over_its_window() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.Sigmoid(), conv(4, 2, padding=0)))
    plan = plan_of(program, {"0": [0, 1]})
    folded = run(program, [FoldConstantChannels(plan)]).program
    share = program.get_parameter("2.weight")[:, 2:].sum((1, 2, 3)) / 2
    assert_same(program.get_parameter("2.bias") + share, folded.get_parameter("2.bias"), 1e-14)


def test_it_comes_before_elimination() -> None:
    program = traced(network(), X)
    plan = plan_of(program, {"0": [0]})
    passes = [EliminateDeadChannels(plan), FoldConstantChannels(plan)]
    with pytest.raises(PassError, match="expected fold-constant-channels before eliminate-dead-channels"):
        run(program, passes)
