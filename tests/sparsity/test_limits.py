"""Budgets and units of plans for methods that train: what is targeted is what the plan would remove."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.networks import resnet20
from swdc.sparsity.baselines import GrowingL2, LRRewinding, MagnitudePruning, NetworkSlimming
from tests.sparsity.test_latency import blocks
from tests.support import image

BUDGETS = ["parameters", "channels", "operations", "macs", "latency"]


@cache
def program() -> swdc.Program:
    """Return a ResNet-20 whose norms have gains and biases of their own."""
    torch.manual_seed(0)
    model = resnet20(width=16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
    return swdc.trace(model, image(2, 3, 16, 16).float())


def kept(plan):
    return dict(plan.kept)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("round_to", [1, 8, {"blocks.0.*": 4, "*": 2}])
def test_what_is_targeted_is_what_the_plan_removes(budget, round_to):
    asked = {"budget": budget, "round_to": round_to, "table": blocks(8)}
    swd = swdc.SWD(program(), 0.5, a_min=1, a_max=10, steps=3, **asked)
    wanted = swdc.plan(program(), 0.5, criterion="gamma", **asked)
    assert kept(swd.plan()) == kept(wanted)
    gone = sum(int(target.chosen.sum()) for target in swd.targeted() if target.name.endswith(".weight"))
    assert gone or budget == "latency"


def test_targets_follow_the_weights_and_stay_in_units():
    own = program().clone()
    swd = swdc.SWD(own, 0.6, "filters", a_min=1, a_max=10, steps=3, round_to=8, budget="macs")
    found = []
    for _ in range(3):
        fresh = swdc.SWD(own, 0.6, "filters", a_min=1, a_max=10, steps=3, round_to=8, budget="macs")
        found.append(swd.plan())
        assert {t.name: t.chosen.tolist() for t in swd.targeted()} == {
            t.name: t.chosen.tolist() for t in fresh.targeted()
        }
        assert all(len(channels) % 8 == 0 for channels in found[-1].kept.values())
        with torch.no_grad():
            for parameter in own.parameters():
                parameter *= 1 + 0.5 * torch.rand_like(parameter)
    assert len({str(plan.kept) for plan in found}) == 3


def test_training_kills_whole_blocks():
    own = program().clone().train()
    optimizer = torch.optim.SGD(own.parameters(), lr=0.01, momentum=0.9)
    swd = swdc.SWD(own, 0.5, "filters", a="auto", steps=6, optimizer=optimizer, budget="macs", round_to=8)
    for seed in range(6):
        optimizer.zero_grad()
        torch.manual_seed(seed)
        nn.functional.cross_entropy(own(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
        swd.step()
        optimizer.step()
    plan, images = swd.plan(), torch.randn(2, 3, 16, 16)
    slim = swdc.slim(own.eval(), plan)
    assert swdc.count(slim).macs <= 0.5 * swdc.count(own).macs
    assert all(len(channels) % 8 == 0 for channels in plan.kept.values())
    torch.testing.assert_close(slim.eval()(images), own(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        (MagnitudePruning, {"structure": "channels", "start": 0, "rounds": 2}),
        (LRRewinding, {"structure": "channels", "start": 1}),
        (NetworkSlimming, {"start": 1}),
        (GrowingL2, {"delta": 1.0, "every": 1, "stabilize": 0}),
    ],
)
def test_baselines_have_the_same_budgets_and_units(method, more):
    own = program().clone()
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
    made = method(own, 0.5, steps=4, optimizer=optimizer, budget="macs", round_to=8, **more)
    made.remove_()
    plan = made.plan()
    slim = swdc.slim(own, plan)
    assert 0.25 * swdc.count(own).macs < swdc.count(slim).macs <= 0.5 * swdc.count(own).macs
    assert all(len(channels) % 8 == 0 for channels in plan.kept.values())


def test_a_state_of_another_budget_is_refused():
    state = swdc.SWD(program(), 0.5, a_min=1, a_max=10, steps=3).state_dict()
    for other in ({"budget": "macs"}, {"round_to": 8}):
        with pytest.raises(PlanError, match="settings of this run"):
            swdc.SWD(program(), 0.5, a_min=1, a_max=10, steps=3, **other).load_state_dict(state)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": "time"}, "expected a budget of"),
        ({"round_to": 0}, "round_to"),
        ({"round_to": {"nothing.*": 8}}, "nothing"),
        ({"structure": "weights", "budget": "macs"}, "targets single weights"),
        ({"structure": "weights", "round_to": 8}, "targets single weights"),
        ({"round_to": 16, "target": 0.99}, "its unit of round_to"),
    ],
)
def test_bad_limits(asked, message):
    with pytest.raises(PlanError, match=message):
        swdc.SWD(program(), **{"target": 0.5, "a_min": 1, "a_max": 10, "steps": 3, **asked})
