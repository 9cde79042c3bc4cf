"""The thin dense network: equal shares, the budget, and parameters as new modules have them."""

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.sparsity.baselines import thin
from tests.sparsity.test_baselines import network
from tests.support import Function, assert_equal, operators, randomise


@pytest.mark.parametrize("policy", ["tied", "free"])
@pytest.mark.parametrize("budget", ["parameters", "operations", "macs"])
def test_equal_shares_meet_the_budget_and_no_more(budget, policy):
    program = network(policy=policy)
    small = thin(program, 0.6, budget)
    full, left = (getattr(swdc.count(p), budget) for p in (program, small))
    assert left <= 0.4 * full
    widths, before = _widths(small), _widths(program)
    assert operators(small) == operators(program)
    share = max(1 - w / b for w, b in zip(widths, before, strict=True))
    assert all(w == b - int(b * share + 1e-9) for w, b in zip(widths, before, strict=True))
    one_less = swdc.plan(program, share - 1e-3, "channels", "uniform", "group", policy="tied")
    assert getattr(swdc.count(swdc.slim(program, one_less)), budget) > 0.4 * full


def _widths(program):
    return [m.num_features for m in program.modules() if isinstance(m, nn.BatchNorm2d)]


def test_parameters_are_those_of_new_modules_and_of_the_seed():
    program = randomise(network())
    before = {name: t.clone() for name, t in program.tensors.items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = thin(program, 0.5, seed=1), thin(program, 0.5, seed=1), thin(program, 0.5, seed=2)
    assert torch.equal(torch.rand(3), expected), "the caller's generator goes on as if nothing had been drawn"
    assert all(torch.equal(t, before[name]) for name, t in program.tensors.items())
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, same.tensors[name])
    torch.manual_seed(1)
    for path, module in one.leaves.items():
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not module.bias.any()
            assert not module.running_mean.any()
            assert bool((module.running_var == 1).all())
            assert module.num_batches_tracked == 0
        elif isinstance(module, nn.Conv2d):
            new = nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size, bias=False, dtype=torch.float64
            )
            assert torch.equal(module.weight, new.weight), path
            assert not torch.equal(module.weight, other.get_submodule(path).weight)
        elif isinstance(module, nn.Linear):
            new = nn.Linear(module.in_features, module.out_features, dtype=torch.float64)
            assert torch.equal(module.weight, new.weight)
            assert torch.equal(module.bias, new.bias)


def test_it_trains_and_keeps_the_mode():
    small = thin(network().train(), 0.5)
    assert small.training
    small(torch.randn(4, 1, 6, 6)).sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    assert not thin(network().eval(), 0.5).training
    assert small.facts.origin is None
    assert small.facts.notes == network().facts.notes


def test_parameters_outside_modules_are_drawn_like_the_original_and_norms_are_plain():
    torch.manual_seed(0)
    model = Function(
        lambda m, x: m.head(m.norm(m.embed(x) + m.place) * m.scale),
        embed=nn.Linear(5, 64), place=nn.Parameter(0.02 * torch.randn(7, 64) + 0.5),
        scale=nn.Parameter(torch.full((64,), 0.1)), norm=nn.LayerNorm(64), head=nn.Linear(64, 2),
        table=torch.arange(3.0),
    )  # fmt: skip
    program = swdc.trace(model, torch.randn(2, 7, 5))
    small = thin(program, 0.5, "channels", seed=3)
    place, scale = small.get_parameter("place"), small.get_parameter("scale")
    assert place.shape == (7, 32)
    assert not torch.isin(place, model.place).any()
    assert place.mean().item() == pytest.approx(0.5, abs=0.01)
    assert place.std().item() == pytest.approx(0.02, rel=0.3)
    assert_equal(scale, torch.full((32,), 0.1))
    assert isinstance(small.get_submodule("norm"), nn.LayerNorm)
    assert small.get_submodule("norm").normalized_shape == (32,)
    assert small(torch.randn(3, 7, 5)).shape == (3, 7, 2)


def test_a_layer_without_bias_gets_no_bias():
    model = nn.Sequential(nn.Linear(4, 16), nn.Sigmoid(), nn.Linear(16, 3, bias=False))
    program = swdc.trace(model, torch.randn(2, 4))
    small = thin(program, 0.5, "channels")
    assert small.get_submodule("2").bias is None
    assert swdc.count(small).parameters == 4 * 8 + 8 + 8 * 3


def test_rounding_and_ignored_layers():
    program = network()
    small = thin(program, 0.4, "channels", round_to=2, ignore="blocks.0.conv1")
    widths = _widths(small)
    assert all(width % 2 == 0 for width in widths)
    assert small.get_submodule("blocks.0.conv1").out_channels == 4


def test_bad_arguments():
    program = network()
    with pytest.raises(PlanError, match=r"expected a sparsity .* got 1"):
        thin(program, 1.0)
    with pytest.raises(PlanError, match="expected a budget of"):
        thin(program, 0.5, "weights")
    with pytest.raises(PlanError, match="expected tensors with values for initialising a network like it"):
        thin(program.clone().to("meta"), 0.5)
