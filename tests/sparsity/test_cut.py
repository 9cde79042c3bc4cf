"""The threshold over channels: near the last one, but always what the full order takes away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.networks import resnet20
from swdc.sparsity.targets import ChannelTargets
from tests.support import image


def traced(policy):
    torch.manual_seed(0)
    model = resnet20(width=8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
    return swdc.trace(model, image(2, 3, 16, 16), policy=policy)


def removed(found):
    """Return the targeted positions of every parameter."""
    return {target.name: target.chosen.tolist() for target in found}


@pytest.mark.parametrize("policy", ["tied", "free"])
@pytest.mark.parametrize("structure", ["channels", "filters"])
@pytest.mark.parametrize("size", [0.0, 1e-4, 1e-2, 0.5])
def test_a_warm_threshold_takes_what_the_full_order_takes(policy, structure, size):
    program = traced(policy)
    warm = ChannelTargets(program, 0.7, (), structure)
    noise = np.random.default_rng(1)
    for _ in range(8):
        fresh = ChannelTargets(program, 0.7, (), structure)
        assert removed(warm.find()) == removed(fresh.find())
        with torch.no_grad():
            for parameter in program.parameters():
                parameter *= 1 + size * torch.from_numpy(noise.standard_normal(parameter.shape)).float()


def test_small_steps_need_no_full_order(monkeypatch):
    program = traced("free")
    targets = ChannelTargets(program, 0.7, ())
    targets.find()
    monkeypatch.setattr(targets, "_gone", None)
    for _ in range(5):
        assert targets.find()
        with torch.no_grad():
            for parameter in program.parameters():
                parameter += 1e-4 * torch.randn(parameter.shape)


@pytest.mark.parametrize("policy", ["tied", "free"])
def test_equal_gains_are_spread_as_in_a_plan(policy):
    program = traced(policy)
    with torch.no_grad():
        for name, parameter in program.named_parameters():
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.copy_((parameter * 4).round() / 4)
    warm = ChannelTargets(program, 0.7, ())
    for _ in range(3):
        gone = removed(warm.find())
        plan = warm.plan()
        for group in program.groups:
            gains = [m for m in group.members if m.tensor in gone and m.tensor.endswith("weight")]
            for member in gains:
                lost = set(np.flatnonzero(np.array(gone[member.tensor])[member.indices[:, 0]]).tolist())
                assert lost == set(range(group.width)) - set(plan.kept[group.name])
