"""SWD by other criteria than magnitude: what is targeted, for weights and channels, and exact resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.networks import resnet20
from tests.support import conv, group_with, image, traced

SETTINGS: dict[str, Any] = {"a_min": 1.0, "a_max": 10.0, "steps": 9}


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def backward(model: nn.Module, step: int, *shape: int) -> dict[str, torch.Tensor]:
    """Run a loss of random inputs, and return -w g of every parameter."""
    model.zero_grad()
    model(image(*shape, seed=step)).square().sum().backward()
    return {name: -(p * p.grad).detach() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("criterion", ["gradient_weight", "movement"])
def test_the_weights_with_the_lowest_scores_are_pulled(criterion: str) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    method = swdc.SWD(model, 0.5, "weights", criterion=criterion, **SETTINGS)
    moved = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for step in range(3):
        terms = backward(model, step, 5, 6)
        moved = {name: moved[name] + term for name, term in terms.items()}
        scores = moved if criterion == "movement" else {name: term.abs() for name, term in terms.items()}
        before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        method.step()
        pulled = {name: p.grad != before[name] for name, p in model.named_parameters()}
        flat = torch.cat([scores[name].flatten() for name in scores])
        marked = torch.cat([pulled[name].flatten() for name in scores])
        count = int(0.5 * flat.numel())
        assert int(marked.sum()) == count
        assert flat[marked].max() <= flat[~marked].min()
        optimizer.step()
        model.zero_grad()  # the scores of the step stand
        assert all(torch.equal(t.chosen, pulled[t.name]) for t in method.targeted())


def test_the_least_weights_are_targeted_if_no_weight_has_a_gradient() -> None:
    model = perceptron()
    method = swdc.SWD(model, 0.3, "weights", criterion="gradient_weight", **SETTINGS)
    count = int(0.3 * sum(p.numel() for p in model.parameters()))
    method.step()  # no gradient at all
    magnitudes = torch.cat([p.detach().abs().flatten() for p in model.parameters()])
    found = torch.cat([t.chosen.flatten() for t in method.targeted()])
    assert torch.equal(found, magnitudes <= magnitudes.kthvalue(count).values)


def test_channels_by_gradient_times_weight_are_those_of_the_plan() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 2)))
    method = swdc.SWD(program, 0.6, "filters", criterion="gradient_weight", **SETTINGS)
    backward(program, 1, 2, 3, 8, 8)
    expected = swdc.plan(program, 0.6, budget="parameters", criterion="gradient_weight")
    method.step()
    assert method.plan().kept == expected.kept
    assert method.plan().settings["criterion"] == "gradient_weight"


def test_channels_by_movement_of_their_gains() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 2)))
    method = swdc.SWD(program, 0.4, criterion="movement", **SETTINGS)
    moved = torch.zeros(8, dtype=torch.float64)
    for step in range(3):
        moved += backward(program, step, 2, 3, 8, 8)["1.weight"]
        method.step()
    kept = method.plan().kept[group_with(program, "1.weight[0]").name]
    assert sorted(moved.argsort(descending=True)[: len(kept)].tolist()) == list(kept)
    assert {t.name for t in method.targeted()} == {"1.weight", "1.bias"}


def trained(program: Program, method: swdc.SWD, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        backward(program, step, 2, 3, 8, 8)
        method.step()
        optimizer.step()


@pytest.mark.parametrize("structure", ["weights", "filters"])
@pytest.mark.parametrize("criterion", ["movement", "gradient_weight"])
def test_a_saved_state_goes_on_exactly(structure: str, criterion: str) -> None:
    def run() -> tuple[Program, swdc.SWD, torch.optim.Optimizer]:
        torch.manual_seed(0)
        program = traced(resnet20(width=4), image(2, 3, 8, 8))
        method = swdc.SWD(program, 0.5, structure, criterion=criterion, **SETTINGS)
        return program, method, torch.optim.SGD(program.parameters(), lr=1e-4, momentum=0.9)

    whole, first, second = run(), run(), run()
    trained(*whole, range(6))
    trained(*first, range(3))
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict(first[2].state_dict())
    trained(*second, range(3, 6))
    for name, tensor in whole[0].state_dict().items():
        assert torch.equal(tensor, second[0].state_dict()[name]), name
    assert whole[1].plan() == second[1].plan()


def test_a_state_by_another_criterion_is_refused() -> None:
    one = swdc.SWD(perceptron(), 0.5, "weights", criterion="movement", **SETTINGS)
    other = swdc.SWD(perceptron(), 0.5, "weights", **SETTINGS)
    with pytest.raises(PlanError, match="'criterion': \\('magnitude', 'movement'\\)"):
        other.load_state_dict(one.state_dict())


def test_a_function_as_criterion_of_channels() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), image(2, 5))

    def fourth_power(weight: torch.Tensor) -> torch.Tensor:
        return weight**4

    plan = swdc.SWD(program, 0.5, criterion=fourth_power, **SETTINGS).plan()
    weight, bias = (program.get_parameter(name).detach().numpy() for name in ("0.weight", "0.bias"))
    sums = (weight**4).sum(1) + bias**4
    assert sorted(np.argsort(-sums)[: len(plan.kept["0"])].tolist()) == list(plan.kept["0"])
    assert plan.settings["criterion"] == "fourth_power"


def deep() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).double()


def writing(program: Program, groups: Any) -> list[Any]:
    """Return the sum of the magnitudes of what writes each channel."""
    found = []
    for group in groups:
        total = np.zeros(group.width)
        for member in group.with_role("writes"):
            weight = program.tensors[member.tensor].detach().abs().double().movedim(member.dim, 0)
            total += weight.flatten(1).sum(1).numpy()[member.indices].sum(1) if weight.dim() > 1 else weight.numpy()
        found.append(total)
    return found


@pytest.mark.parametrize("criterion", ["l2", "l1", "random", "uniform", writing])
def test_a_criterion_of_a_plan_targets_what_the_plan_would_remove_at_every_step(criterion: Any) -> None:
    program = swdc.trace(deep(), torch.randn(2, 6).double())
    optimizer = torch.optim.SGD(program.parameters(), lr=0.05)
    swd = swdc.SWD(program, 0.5, **SETTINGS, mu=1e-3, optimizer=optimizer, criterion=criterion)
    for step in range(4):
        assert swd.plan().kept == swdc.plan(program, 0.5, "parameters", criterion).kept
        backward(program, step, 4, 6)
        swd.step()
        optimizer.step()
    swd.remove_()
    plan = swd.plan()
    assert plan.settings["criterion"] == getattr(criterion, "__name__", criterion)
    assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan), seed=3).max_relative_error <= 1e-9


def test_groups_that_a_criterion_cannot_judge_stay_whole_and_states_are_told_apart() -> None:
    program = swdc.trace(deep(), torch.randn(2, 6).double())

    def first(program: Program, groups: Any) -> list[Any]:
        return [np.arange(group.width) if group.name == "0" else None for group in groups]

    swd = swdc.SWD(program, 0.3, **SETTINGS, criterion=first)
    kept = swd.plan().kept
    assert len(kept["2"]) == 12
    assert kept["0"] == tuple(range(16 - len(kept["0"]), 16))
    with pytest.raises(PlanError, match="expected a state with the settings of this run"):
        swdc.SWD(program, 0.3, **SETTINGS, criterion=writing).load_state_dict(swd.state_dict())


def test_criteria_for_channels_need_channels_scores_and_no_statistics() -> None:
    program = swdc.trace(perceptron(), torch.randn(2, 6).double())
    with pytest.raises(PlanError, match=r"expected a criterion for weights with structure='weights'.*'l2'"):
        swdc.SWD(program, 0.5, "weights", **SETTINGS, criterion="l2")
    with pytest.raises(PlanError, match="expected groups that the criterion 'nothing' can score"):
        swdc.SWD(program, 0.5, **SETTINGS, criterion=nothing)
    with pytest.raises(PlanError, match="expected statistics for criterion='reading'"):
        swdc.SWD(program, 0.5, **SETTINGS, criterion=reading)
    with pytest.raises(PlanError, match="expected a criterion of"):
        swdc.SWD(program, 0.5, **SETTINGS, criterion="wanda")


def nothing(program: Program, groups: Any) -> list[Any]:
    return [None for _ in groups]


def reading(program: Program, groups: Any, *, statistics: Any) -> list[Any]:
    return [np.ones(group.width) for group in groups]
