"""What SGD can bear, the pull that is held below it, and the error when nothing holds it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.errors import PlanError
from swdc.sparsity.penalties.bearable import bearable, limit

GROUPS = [
    {"momentum": 0.0}, {"momentum": 0.5}, {"momentum": 0.9}, {"momentum": 0.99},
    {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "nesterov": True}, {"momentum": 0.9, "dampening": 0.5},
]  # fmt: skip


def magnitude_after(steps, product, group):
    """Return how large a weight of 1 is after some steps of SGD in which ``product`` is ``lr`` times the pull."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.25, **group)
    for _ in range(steps):
        weight.grad = weight.detach() * product / 0.25
        optimizer.step()
    return abs(float(weight.detach()))


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_the_limit_is_where_sgd_begins_to_diverge(group):
    assert magnitude_after(4000, 0.98 * limit(group), group) < 1e-6
    assert magnitude_after(400, 1.02 * limit(group), group) > 3
    assert magnitude_after(4000, bearable(group), group) < 1e-6


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("norm", ["l2", "smooth_l1"])
def test_a_held_pull_brings_weights_to_zero_at_any_coefficient(group, norm):
    model = nn.Linear(40, 10, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **group)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e9, a_max=1e9, steps=2000, norm=norm, optimizer=optimizer)
    for _ in range(2000):
        model.zero_grad()
        model.weight.grad = torch.zeros_like(model.weight)
        swd.step()
        optimizer.step()
    assert all(t.parameter[t.chosen].abs().max() < 1e-3 for t in swd.targeted())
    assert model.weight.abs().max() < 1


def test_what_acts_is_what_a_says_in_the_state_and_in_the_log(caplog):
    model = nn.Linear(9, 9)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e3, a_max=1e7, steps=5, mu=5e-4, optimizer=optimizer)
    asked = [1e3 * 1e4 ** (s / 5) for s in range(6)]
    with caplog.at_level(logging.WARNING, "swdc"):
        for step in range(6):
            assert swd.scheduled_a == pytest.approx(asked[step], rel=1e-12)
            acts = swd.a
            assert acts == pytest.approx(min(asked[step], 1 / (1e-3 * 5e-4)), rel=1e-12)
            model.zero_grad()
            swd.step()
            target = swd.targeted()[0]
            ratio = (target.parameter.grad / target.parameter.detach())[target.chosen]
            torch.testing.assert_close(ratio, torch.full_like(ratio, acts * 5e-4), rtol=1e-5, atol=0)
            assert swd.applied == swd.state_dict()["applied"] == acts
    (record,) = caplog.records  # told once
    assert "SGD bears lr a mu below 3.8 only; a is held at 2e+06 now" in record.getMessage()
    assert swd.state_dict()["held_for"] == "SGD"


def test_a_follows_the_rate_of_the_optimizer():
    model = nn.Linear(9, 9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e5, a_max=1e5, steps=5, mu=5e-4, optimizer=optimizer)
    assert swd.a == pytest.approx(2e4)
    optimizer.param_groups[0]["lr"] = 1e-4
    assert swd.a == 1e5


def test_each_group_is_held_by_its_own_rate_and_pulled_by_its_own_decay():
    model = nn.Sequential(nn.Linear(9, 9, bias=False), nn.Linear(9, 9, bias=False), nn.Linear(9, 9, bias=False))
    rates = [{"lr": 0.1, "weight_decay": 1e-3}, {"lr": 1e-5, "weight_decay": 1e-4}, {"lr": 1e-5, "weight_decay": 0.0}]
    groups = [{"params": layer.parameters(), **rate} for layer, rate in zip(model, rates, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e6, a_max=1e6, steps=5, optimizer=optimizer)
    swd.step()
    strengths = [10.0, 1e6 * 1e-4, 1e6 * 1e-3]  # without a decay of its own, a group has the largest
    for target, strength in zip(swd.targeted(), strengths, strict=True):
        expected = target.parameter.detach() * target.chosen * strength
        torch.testing.assert_close(target.parameter.grad, expected, rtol=1e-6, atol=0)
    assert swd.a == pytest.approx(10.0 / 1e-3)


@pytest.mark.parametrize(("given", "decay", "expected"), [(None, 1e-2, 1e-2), (3e-3, 1e-2, 3e-3), (None, 0.0, 5e-4)])
def test_mu_is_the_decay_of_the_optimizer_unless_it_is_given(given, decay, expected):
    model = nn.Linear(9, 9)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, weight_decay=decay)
    swd = swdc.SWD(model, 0.5, "weights", a_min=2, a_max=2, steps=5, mu=given, optimizer=optimizer)
    swd.step()
    assert swd.mu == expected
    target = swd.targeted()[0]
    torch.testing.assert_close(target.parameter.grad, 2 * expected * target.parameter.detach() * target.chosen)


def test_a_state_of_another_way_of_holding_is_refused():
    def made(**options):
        model = nn.Linear(9, 9)
        given = {"optimizer": torch.optim.SGD(model.parameters(), lr=1e-3)} if options.pop("known", True) else {}
        return swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=5, **given, **options)

    state = made().state_dict()
    made().load_state_dict(state)
    with pytest.raises(PlanError, match=r"held_for"):
        made(known=False).load_state_dict(state)
    with pytest.raises(PlanError, match=r"'hold': \(False, True\)"):
        made(hold=False).load_state_dict(state)


def train(model, swd, optimizer, steps):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        inputs = torch.randn(32, 20, generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), (inputs[:, 0] > 0).long()).backward()
        swd.step()
        optimizer.step()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_unknown_optimizer_is_watched_and_a_known_one_is_held(known, momentum):
    """``lr a mu`` rises from 5e-5 to 10, over the limit within the last twentieth of 400 steps."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    given = {"optimizer": optimizer} if known else {}
    swd = swdc.SWD(model, 0.8, "weights", a_min=1, a_max=2e5, steps=400, mu=5e-4, **given)
    if known:
        train(model, swd, optimizer, 400)
        assert max(p.abs().max() for p in model.parameters()) < 10
        return
    with pytest.raises(PlanError, match=r"begun to diverge before step \d+: .* under a = .*hold=True.*proximal"):
        train(model, swd, optimizer, 400)
    assert 2e5 ** (swd.s / 400) * 5e-5 > 2 * (1 + momentum)  # not before the limit is passed
    assert max(p.abs().max() for p in model.parameters()) < 1e6  # nor long after it


def test_without_holding_nothing_is_held_or_watched():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = swdc.SWD(
        model, 0.8, "weights", a_min=1e5, a_max=1e5, steps=400, mu=5e-4, optimizer=optimizer, hold=False
    )  # fmt: skip
    train(model, swd, optimizer, 12)
    assert swd.a == swd.applied == 1e5
    assert max(p.abs().max() for p in model.parameters()) > 100


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam"])
def test_adaptive_optimizers_come_to_rest_within_a_few_rates_of_zero_whatever_the_coefficient(name):
    for strength in (1.0, 1e4, 1e8):
        generator = torch.Generator().manual_seed(0)
        weight = nn.Parameter(torch.randn(500, generator=generator, dtype=torch.float64))
        start, largest = float(weight.detach().abs().max()), 0.0
        optimizer = getattr(torch.optim, name)([weight], lr=1e-2)
        for step in range(2500):
            weight.grad = torch.randn(500, generator=generator, dtype=torch.float64) * 1e-3
            if step >= 100:
                weight.grad += strength * weight.detach()
            optimizer.step()
            largest = max(largest, float(weight.detach().abs().max()))
        assert largest < start + 0.5
        rest = float(weight.detach().square().mean().sqrt()) / 1e-2
        assert rest < 5, (name, strength, rest)


def test_a_rate_of_zero_holds_nothing():
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert swdc.SWD(model, 0.5, "weights", a_min=7, a_max=7, steps=1, optimizer=optimizer).a == 7
