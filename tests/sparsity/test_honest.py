"""States, places and calls that would quietly do something else than they seem to are told."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.errors import PlanError
from swdc.sparsity.baselines import method

BOUNDS = {"a_min": 1.0, "a_max": 10.0, "steps": 5}


def network(hidden=32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, 5))


def backward(model):
    for parameter in model.parameters():
        parameter.grad = None
    functional.cross_entropy(model(torch.randn(64, 20)), torch.randint(5, (64,))).backward()


def made(model=None, **options):
    return swdc.SWD(model or network(), 0.5, "weights", **{**BOUNDS, **options})


def scaled(by):
    return lambda s, a_min, a_max, steps: by


def test_a_state_of_another_run_is_refused():
    state = made(ignore=["2"]).state_dict()
    made(ignore="2").load_state_dict(state)
    with pytest.raises(PlanError, match="'ignore'"):
        made().load_state_dict(state)
    with pytest.raises(PlanError, match="'network'"):
        made(network(64)).load_state_dict(made().state_dict())
    with pytest.raises(PlanError, match="'norms'"):
        made(norms=True).load_state_dict(made().state_dict())


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("schedule", lambda s, a, b, n: 1.0, lambda s, a, b, n: 2.0), ("schedule", scaled(1.0), scaled(2.0)),
        ("norm", lambda w: w.square(), lambda w: w.square() * 2),
        ("criterion", lambda w: w.abs(), lambda w: w.square()),
    ],
)  # fmt: skip
def test_another_function_of_the_same_name_is_refused(name, one, other):
    state = made(**{name: one}).state_dict()
    made(**{name: one}).load_state_dict(state)
    with pytest.raises(PlanError, match=f"'{name}'"):
        made(**{name: other}).load_state_dict(state)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_after_the_optimizer_s_is_refused_and_one_before_it_is_not(set_to_none):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = made(model, optimizer=optimizer)
    for _ in range(3):
        optimizer.zero_grad(set_to_none)
        functional.cross_entropy(model(torch.randn(64, 20)), torch.randint(5, (64,))).backward()
        swd.step()
        optimizer.step()
    with pytest.raises(PlanError, match=r"expected step 3 between backward and the optimizer's step"):
        swd.step()


@pytest.mark.parametrize("clears", [False, True])
def test_a_step_after_the_optimizer_s_is_refused_even_without_the_optimizer(clears):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = made(model)
    for _ in range(2):  # micro-batches add up, and several steps may share one backward
        for _ in range(2):
            functional.cross_entropy(model(torch.randn(64, 20)), torch.randint(5, (64,))).backward()
        swd.step()
        optimizer.step()
        optimizer.zero_grad()
    swd.step()
    functional.cross_entropy(model(torch.randn(64, 20)), torch.randint(5, (64,))).backward()
    optimizer.step()
    if clears:
        optimizer.zero_grad()
    with pytest.raises(PlanError, match=r"expected step 3 between .* but the weights have changed since backward"):
        swd.step()
    swd.close()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("name", ["growing_l2", "slimming", "uniform_decay"])
def test_baselines_that_pull_refuse_an_optimizer_that_climbs(name):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    program = swdc.trace(layers, torch.randn(3, 4))
    bounds = {"a_min": 1, "a_max": 2} if name == "uniform_decay" else {"start": 0}
    bounds |= {"delta": 0.5, "stabilize": 0} if name == "growing_l2" else {}
    for maximize in (False, True):
        optimizer = torch.optim.SGD(program.parameters(), lr=0.1, maximize=maximize)
        arguments = {"steps": 100, "optimizer": optimizer, **bounds}
        if maximize:
            with pytest.raises(PlanError, match="expected an optimizer that minimises, got maximize=True"):
                method(name, program, 0.3, "channels", **arguments)
        else:
            method(name, program, 0.3, "channels", **arguments)


def test_an_optimizer_that_climbs_is_refused_where_the_pull_is_a_gradient():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, maximize=True)
    with pytest.raises(PlanError, match="expected an optimizer that minimises, got maximize=True"):
        made(model, optimizer=optimizer)
    made(model, optimizer=optimizer, penalty="proximal")


def test_a_removal_before_the_end_is_told_and_one_after_it_is_not(caplog):
    model = network()
    swd = made(model)
    with caplog.at_level(logging.WARNING, "swdc"):
        swd.gap(lambda: 1.0)
        assert not caplog.records
        for _ in range(5):
            swd.step()
        swd.remove_()
        assert not caplog.records
        made(model).remove_()
    assert "remove_ after 0 of 5 steps" in caplog.text


def test_removed_weights_are_held_at_zero_until_the_method_is_closed():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    swd = made(model, optimizer=optimizer)
    with pytest.raises(PlanError, match=r"expected hold\(\) after remove_\(\)"):
        swd.hold()
    for _ in range(5):
        backward(model)
        swd.step()
        optimizer.step()
    swd.remove_()
    swd.hold()
    zero = {n: p.detach() == 0 for n, p in model.named_parameters()}
    assert sum(int(z.sum()) for z in zero.values()) == sum(p.numel() for p in model.parameters()) // 2
    for _ in range(3):
        backward(model)
        optimizer.step()
    assert all(torch.equal(p.detach() == 0, zero[n]) for n, p in model.named_parameters())
    swd.close()
    backward(model)
    optimizer.step()
    assert any((p.detach()[zero[n]] != 0).any() for n, p in model.named_parameters())
    assert not optimizer._optimizer_step_post_hooks
    with pytest.raises(PlanError, match=r"got one after close\(\)"):
        swd.step()


def old(layer, kind):
    with pytest.warns(FutureWarning):
        return getattr(nn.utils, kind)(layer)


@pytest.mark.parametrize(
    "parametrised",
    [
        nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal, lambda layer: old(layer, "weight_norm"),
    ],
)  # fmt: skip
def test_parametrised_weights_are_refused_by_name(parametrised):
    model = nn.Sequential(parametrised(nn.Linear(20, 20)), nn.Linear(20, 5))
    with pytest.raises(
        PlanError, match=r"expected parameters that are weights themselves, but 0\..* from which 0 comp"
    ):
        made(model)
    swd = swdc.SWD(model, 0.1, "weights", ignore=["0.*"], **BOUNDS)
    assert {t.name for t in swd.targeted()} == {"1.weight", "1.bias"}


@pytest.mark.parametrize("number", [np.int64(1), np.float32(1), np.float64(1)])
def test_numbers_of_numpy_are_numbers(number):
    swd = made(a_min=number, mu=np.float32(0.5), steps=np.int64(5))
    assert swd.a == 1
    swd.step()
    swd.load_state_dict(swd.state_dict())


class LowRank(nn.Linear):
    """A linear layer with an update of low rank, whose factors are parts of the weight."""

    def __init__(self, size, rank, merged):
        super().__init__(size, size)
        self.down, self.up = nn.Parameter(torch.randn(rank, size)), nn.Parameter(torch.randn(size, rank))
        self.weight.requires_grad_(False)
        self.merged = merged

    def forward(self, x):
        if self.merged:
            return functional.linear(x, self.weight + self.up @ self.down, self.bias)
        return functional.linear(x, self.weight, self.bias) + x @ self.down.t() @ self.up.t()


@pytest.mark.parametrize("traced", [False, True])
def test_factors_of_a_weight_are_refused_by_name_and_layers_of_low_rank_are_not(traced):
    def model(merged):
        made = nn.Sequential(nn.Linear(6, 6), LowRank(6, 2, merged))
        return swdc.trace(made, torch.randn(3, 6)) if traced else made

    with pytest.raises(PlanError, match=r"but 1\.down is one from which 1 computes its weight .* a low-rank update"):
        swdc.SWD(model(True), 0.5, "weights", **BOUNDS)
    swdc.SWD(model(True), 0.2, "weights", ignore=["1.*"], **BOUNDS)
    method = swdc.SWD(model(False), 0.5, "weights", **BOUNDS)
    assert {"1.down", "1.up"} <= {t.name for t in method.targeted()}
