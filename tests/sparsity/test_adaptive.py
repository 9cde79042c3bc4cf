"""The pull under Adam, AdamW and NAdam: after the step, bounded by it, and apart from the moments."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import swdc

RATE = 1e-3


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.1


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize(("name", "options"), [("Adam", {"amsgrad": True}), ("AdamW", {"lr": 0.02}), ("NAdam", {})])
def test_a_weight_loses_the_step_of_its_pull(name: str, options: dict[str, Any], norm: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 4, bias=False).double()
    twin = copy.deepcopy(model)
    mine, other = (getattr(torch.optim, name)(m.parameters(), betas=(0.8, 0.9), **options) for m in (model, twin))
    method = swdc.SWD(model, 0.5, "weights", a_min=200, a_max=2e3, steps=4, mu=1e-3, norm=norm, optimizer=mine)
    for step in range(4):
        gradients(model, step)
        gradients(twin, step)
        (target,) = method.targeted()
        before = model.weight.grad.clone()
        method.step()
        assert torch.equal(model.weight.grad, before)
        mine.step()
        other.step()
        with torch.no_grad():
            state = other.state[twin.weight]
            squares = state["max_exp_avg_sq" if "amsgrad" in options else "exp_avg_sq"] / (1 - 0.9 ** (step + 1))
            pull = 200 * 10 ** (step / 4) * 1e-3 * (twin.weight if norm == "l2" else twin.weight.sign())
            moved = mine.param_groups[0]["lr"] / (1 - 0.8) * pull / (pull.square() + squares).sqrt()
            left = twin.weight - torch.where(twin.weight.abs() < moved.abs(), twin.weight, moved)
            twin.weight.copy_(torch.where(target.chosen, left, twin.weight))
        torch.testing.assert_close(model.weight, twin.weight, rtol=1e-12, atol=1e-15)
        assert torch.equal(mine.state[model.weight]["exp_avg_sq"], other.state[twin.weight]["exp_avg_sq"])


@pytest.mark.parametrize(("hold", "rates"), [(False, 31.0), (True, 10.0)])
def test_a_pull_in_a_single_step_moves_a_weight_so_far(hold: bool, rates: float) -> None:
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, 5.0]]))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    twin = copy.deepcopy(model)
    other = torch.optim.Adam(twin.parameters(), lr=RATE)
    method = swdc.SWD(model, 0.5, "weights", a_min=1e6, a_max=1e6, steps=1, mu=1.0, optimizer=optimizer, hold=hold)
    ends = []
    for network, stepped, at in ((model, optimizer, 200), (twin, other, -1)):
        for step in range(260):
            network.weight.grad = torch.full((1, 2), 1e-3 * (-1) ** step, dtype=torch.float64)
            if step == at:
                method.step()
            stepped.step()
            if step == 0:
                stepped.state[network.weight]["step"] += 1e5  # late enough that moments need no correction
        ends.append(float(network.weight[0, 0].detach()))
    assert (ends[1] - ends[0]) / RATE == pytest.approx(rates, rel=0.05)


def test_a_parameter_that_the_optimizer_has_not_moved_stays_and_a_skipped_step_pulls_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    method = swdc.SWD(model, 0.9, "weights", a_min=1e9, a_max=1e9, steps=9, optimizer=optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    method.step()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    model[1].weight.grad = torch.ones(3, 3)
    method.step()
    optimizer.step()
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[1].weight, before[1])


@pytest.mark.parametrize("structure", ["weights", "channels"])
def test_the_documented_loop_ends_within_a_point_of_its_best_on_digits(structure: str) -> None:
    digits = load_digits()
    inputs, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(0)
    layers = [nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 96), nn.BatchNorm1d(96), nn.ReLU()]
    program = swdc.trace(nn.Sequential(*layers, nn.Linear(96, 10)), inputs[:2])
    optimizer = torch.optim.AdamW(program.parameters())
    epochs, batches = 40, math.ceil(1437 / 64)
    swd = swdc.SWD(program, 0.9, structure, a_min=1, a_max=1e5, steps=epochs * batches, optimizer=optimizer)

    def accuracy() -> float:
        program.eval()
        with torch.no_grad():
            right = program(inputs[1437:]).argmax(1) == labels[1437:]
        program.train()
        return float(right.double().mean())

    seen = []
    for _ in range(epochs):
        for rows in torch.randperm(1437).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(program(inputs[rows]), labels[rows]).backward()
            swd.step()
            optimizer.step()
        seen.append(accuracy())
    assert swd.gap(accuracy).difference == 0
    swd.remove_()
    assert accuracy() >= max(seen) - 0.01
    assert max(seen) > 0.9
