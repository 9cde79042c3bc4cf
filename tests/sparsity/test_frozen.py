"""Frozen parameters stay as they are, bit for bit, under every method; what is frozen is settled at construction."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.errors import PlanError
from swdc.sparsity.baselines import METHODS

STEPS = 12
OPTIONS = {
    "swd": {"a_min": 1.0, "a_max": 1e4}, "uniform_decay": {"a_min": 1.0, "a_max": 1e4},
    "magnitude": {"start": 4, "rounds": 2}, "slimming": {"start": 6, "penalty": 1e-2}, "lr_rewinding": {},
    "growing_l2": {"delta": 0.5, "every": 2, "stabilize": 2},
}  # fmt: skip


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.again = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.third, self.last = nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 4)
        for norm in (self.norm, self.again, self.last):
            nn.init.uniform_(norm.weight, 0.1, 1.0)
            nn.init.uniform_(norm.bias, 0.1, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.first(x)))
        x = functional.relu(self.again(self.second(x)))
        return self.head(functional.relu(self.last(self.third(x))).mean((2, 3)))


def traced() -> swdc.Program:
    program = swdc.trace(Network(), torch.randn(2, 3, 6, 6))
    program.train()
    return program


def without_gradient(program):
    program.get_submodule("first").requires_grad_(False)
    program.get_submodule("norm").requires_grad_(False)
    return [*program.parameters()], {"first.weight", "first.bias", "norm.weight", "norm.bias"}


def in_evaluation(program):
    program.get_submodule("norm").eval()
    return [*program.parameters()], {"norm.weight", "norm.bias"}


def outside_the_optimizer(program):
    return [p for n, p in program.named_parameters() if not n.startswith(("first", "norm"))], {
        "first.weight", "first.bias", "norm.weight", "norm.bias"
    }  # fmt: skip


def trained(program, method, optimizer):
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(program(torch.randn(8, 3, 6, 6, generator=generator)), torch.arange(8) % 4).backward()
        method.step()
        optimizer.step()


@pytest.mark.parametrize("freeze", [without_gradient, in_evaluation, outside_the_optimizer])
@pytest.mark.parametrize(
    ("name", "structure", "more"),
    [(n, s, {}) for n in METHODS for s in ("weights", "channels") if (n, s) != ("slimming", "weights")]
    + [("swd", s, m) for s in ("weights", "channels", "filters") for m in ({"penalty": "proximal"}, {"a": "auto"})],
)
def test_no_method_touches_what_is_frozen(name, structure, more, freeze):
    program = traced()
    trained_ones, frozen = freeze(program)
    optimizer = torch.optim.SGD(trained_ones, lr=0.05)
    options = {} if "a" in more else OPTIONS[name]
    method = METHODS[name](program, 0.6, structure, steps=STEPS, optimizer=optimizer, **options, **more)
    before = {n: p.detach().clone() for n, p in program.named_parameters()}
    trained(program, method, optimizer)
    method.remove_()
    assert any(t.chosen.any() for t in method.targeted())
    assert not frozen & {t.name for t in method.targeted() if t.chosen.any()}
    if freeze is not in_evaluation:  # gains in evaluation still train, if the optimizer has them
        assert all(torch.equal(before[n], program.get_parameter(n)) for n in frozen)
    assert all(bool(program.get_parameter(n).all()) for n in frozen)
    plan = method.plan()
    slim = swdc.slim(program, plan)
    assert all(slim.get_parameter(n).shape == program.get_parameter(n).shape for n in frozen)
    assert swdc.count(slim).parameters < swdc.count(program).parameters or structure == "weights"


def test_the_share_is_of_what_may_be_targeted():
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
    model[0].requires_grad_(False)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1)
    assert {t.name: int(t.chosen.sum()) for t in swd.targeted()}.keys() == {"2.weight", "2.bias"}
    assert sum(int(t.chosen.sum()) for t in swd.targeted()) == 165 // 2
    program = traced()
    without_gradient(program)
    still = sum(p.numel() for p in program.parameters() if not p.requires_grad)
    swd, full = swdc.SWD(program, 0.5, a_min=1, a_max=1, steps=1), swdc.count(program).parameters
    left = swdc.count(swdc.slim(program, swd.plan())).parameters
    assert left <= still + 0.5 * (full - still)


@pytest.mark.parametrize("structure", ["weights", "filters"])
def test_what_is_ignored_stays_and_counts_for_every_structure(structure):
    program = traced()
    whole = swdc.count(program).parameters
    swd = swdc.SWD(program, 0.3, structure, a_min=1, a_max=1, steps=1, ignore=["third"])
    assert "third.weight" not in {t.name for t in swd.targeted()}
    if structure == "filters":
        gone = whole - swdc.count(swdc.slim(program, swd.plan())).parameters
        assert gone >= 0.3 * whole
        return
    outside = sum(p.numel() for n, p in program.named_parameters() if not n.startswith(("norm", "again", "last")))
    assert sum(int(t.chosen.sum()) for t in swd.targeted()) == int(0.3 * outside)
    with pytest.raises(PlanError, match=r"expected a target that can be met, .* are not ignored"):
        swdc.SWD(program, 0.9, "weights", a_min=1, a_max=1, steps=1, ignore=["third"])


def test_a_plan_cuts_frozen_weights_unless_they_are_to_be_kept():
    program = traced()
    _, frozen = without_gradient(program)
    cut = swdc.slim(program, swdc.plan(program, 0.5, scope="group"))
    assert cut.get_parameter("first.weight").shape[0] == 4
    kept = swdc.slim(program, swdc.plan(program, 0.5, scope="group", frozen="keep"))
    assert all(kept.get_parameter(n).shape == program.get_parameter(n).shape for n in frozen)
    assert kept.get_parameter("third.weight").shape[0] == 8
    with pytest.raises(PlanError, match="expected frozen as 'cut' or 'keep', got 'thaw'"):
        swdc.plan(program, 0.5, frozen="thaw")


def test_all_frozen_and_a_stranger_s_optimizer_are_told(caplog):
    model = nn.Linear(9, 9).requires_grad_(False)
    with pytest.raises(PlanError, match=r"expected at least one weight outside norms .*\(2 parameters are frozen\)"):
        swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1)
    model.requires_grad_()
    stranger = torch.optim.SGD(nn.Linear(9, 9).parameters(), lr=0.1)
    with pytest.raises(PlanError, match=r"expected an optimizer of this model's parameters, got one that holds none"):
        swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1, optimizer=stranger)
    program = traced()
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(PlanError, match="some parameters are frozen, and stay"):
        swdc.SWD(program, 0.5, a_min=1, a_max=1, steps=1)
    with caplog.at_level(logging.WARNING, "swdc"):
        part = torch.optim.SGD([model.weight], lr=0.1)
        swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1, optimizer=part)
    assert "lacks 1 parameters of the model, such as bias" in caplog.text
