"""The gap: what a cut would cost now, with everything put back afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.networks import resnet20
from tests.support import image, traced

STRUCTURES = ["weights", "channels", "filters"]


def made(structure: str) -> tuple[swdc.Program, swdc.SWD]:
    torch.manual_seed(0)
    program = traced(resnet20(width=4), image(2, 3, 8, 8)).train()
    return program, swdc.SWD(program, 0.6, structure, a_min=1, a_max=10, steps=5)


def bits(program: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in program.state_dict().items()}


def assert_untouched(program: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, tensor in program.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def evaluating(program: swdc.Program) -> Callable[[], float]:
    def metric() -> float:
        program.eval()
        return program(image(3, 3, 8, 8)).square().mean().item()

    return metric


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_metric_now_and_without_what_is_targeted(structure: str) -> None:
    program, method = made(structure)
    before, metric = bits(program), evaluating(program)
    gap = method.gap(metric)
    assert_untouched(program, before)
    assert all(module.training for module in program.modules() if isinstance(module, nn.BatchNorm2d))
    assert gap.before == metric()
    method.remove_()
    assert gap.after == metric()
    assert gap.difference == gap.after - gap.before != 0
    assert method.gap(metric).difference == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        gap.before = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_statistics_of_a_metric_in_training_mode_are_put_back(structure: str) -> None:
    program, method = made(structure)
    before = bits(program)
    state = torch.random.get_rng_state()
    seen: list[torch.Tensor] = []

    def metric() -> torch.Tensor:
        seen.append(torch.randn(3))
        return program(image(3, 3, 8, 8)).square().mean()  # type: ignore[no-any-return]

    method.gap(metric)
    assert_untouched(program, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(*seen)  # both see the same random numbers


@pytest.mark.parametrize("call", [0, 1])
def test_all_is_put_back_if_the_metric_raises(call: int) -> None:
    program, method = made("filters")
    before, calls = bits(program), []

    def metric() -> float:
        program(image(3, 3, 8, 8))
        calls.append(len(calls))
        if calls[-1] == call:
            raise KeyError("held-out data")
        return 0.0

    with pytest.raises(KeyError, match="held-out data"):
        method.gap(metric)
    assert len(calls) == call + 1
    assert_untouched(program, before)
    assert program.training


def test_negative_zeros_and_subnormal_numbers_come_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[0] = -0.0
        model[0].weight[1] = 1e-40
    before = [p.detach().view(torch.int32).clone() for p in model.parameters()]
    swdc.SWD(model, 0.5, "weights", a_min=1, a_max=10, steps=5).gap(lambda: 0)
    for parameter, words in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.detach().view(torch.int32), words)


@pytest.mark.parametrize("value", [None, "high", torch.ones(2)])
def test_a_metric_that_is_not_a_number_is_refused(value: Any) -> None:
    program, method = made("channels")
    before = bits(program)
    with pytest.raises(PlanError, match=f"expected a metric that returns one number, .* got {type(value).__name__}"):
        method.gap(lambda: value)
    assert_untouched(program, before)
