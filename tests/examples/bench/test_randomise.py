import copy
import math

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from examples.bench.networks.entry import Entry
from examples.bench.networks.randomise import random_network, randomise_


class Constants(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 5, 8))
        self.scale = nn.Parameter(torch.full((8,), 1e-6))
        self.head = nn.Linear(8, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("mask", torch.full((5,), -math.inf))
        self.register_buffer("step", torch.tensor(4.0))
        self.register_buffer("index", torch.zeros(5, dtype=torch.long))


def test_nothing_is_left_constant():
    parts = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), FrozenBatchNorm2d(8), nn.LayerNorm(8), nn.GroupNorm(2, 8)
    model = randomise_(nn.Sequential(*parts, nn.Linear(8, 8)), seed=3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.std() > 0.01, name
    assert float(model[1].running_var.min()) > 0
    assert float(model[2].running_var.min()) > 0
    again = randomise_(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), seed=3)
    other = randomise_(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), seed=4)
    assert torch.equal(model[1].running_mean, again[1].running_mean)
    assert not torch.equal(model[1].running_mean, other[1].running_mean)


def test_zero_heads_layer_scales_and_positions_come_to_matter():
    model = randomise_(Constants())
    for tensor in (model.position, model.scale, model.head.weight, model.head.bias, model.mean):
        assert tensor.std() > 0.01
        assert tensor.abs().mean() > 0.01


def test_numbers_that_the_model_computes_with_stay():
    model = randomise_(Constants())
    assert bool((model.mask == -math.inf).all())
    assert float(model.step) == 4.0
    assert int(model.index.sum()) == 0


def test_weights_that_are_random_stay():
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    assert torch.equal(randomise_(model).weight, before)


def test_weights_too_small_to_be_heard_through_a_deep_network_are_scaled_up():
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(8)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1e-6)
    model = nn.Sequential(*layers)
    one, other = torch.randn(2, 1, 8, 6, 6, dtype=torch.float64)
    assert torch.equal(model.double()(one), model(other))
    randomise_(model.float()).double()
    assert not torch.allclose(model(one), model(other), rtol=1e-6)


def test_a_trained_network_keeps_its_weights():
    given = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    for trained in (True, False):
        model, inputs = random_network(Entry("given", lambda: given, lambda: torch.randn(2, 3, 8, 8), trained), 0)
        assert inputs.shape == (2, 3, 8, 8)
        assert not model.training
        kept = all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert kept == trained


def _deep():
    block = (nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
    return nn.Sequential(nn.Conv2d(3, 16, 1), *[copy.deepcopy(part) for _ in range(40) for part in block])


def test_statistics_fit_other_inputs_too():
    model, inputs = random_network(Entry("deep", _deep, lambda: torch.randn(2, 3, 2, 2)), 0)
    assert len(inputs) == 2
    with torch.no_grad():
        assert model(torch.randn(4, 3, 2, 2)).std() < 5.0  # 450 with the statistics of two images


def test_gains_of_weight_norms_are_not_taken_for_weak_weights():
    torch.manual_seed(0)
    model = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 7))
    before = model.parametrizations.weight.original0.detach().clone()
    gain = randomise_(model).parametrizations.weight.original0
    assert gain.shape == (8, 1, 1)
    assert float(before.std()) < 0.4  # as if it were a weight that lets no signal through
    assert torch.equal(gain, before)
