"""The threshold over channels: found from the last one, it always removes what the full order removes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.networks import resnet20
from swdc.sparsity.targets import ChannelTargets
from swdc.sparsity.targets.tables import Channels
from swdc.sparsity.targets.threshold import Threshold
from tests.support import image


def traced(policy):
    torch.manual_seed(0)
    model = resnet20(width=8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
    return swdc.trace(model, image(2, 3, 16, 16).float(), policy=policy)


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


@pytest.mark.parametrize("policy", ["tied", "free"])
def test_an_unchanged_set_is_found_with_one_look_and_never_kept_too_long(policy, monkeypatch):
    program = traced(policy)
    targets = ChannelTargets(program, 0.5, ())
    searches, stood, search = 0, 0, targets._threshold._search

    def searched(scores):
        nonlocal searches
        searches += 1
        return search(scores)

    monkeypatch.setattr(targets._threshold, "_search", searched)
    noise = np.random.default_rng(0)
    for size in [1e-7] * 20 + [1e-2] * 20:
        before = searches
        masks = removed(targets.find())
        stood += searches == before
        assert masks == removed(ChannelTargets(program, 0.5, ()).find())
        with torch.no_grad():
            for parameter in program.parameters():
                parameter *= 1 + size * torch.from_numpy(noise.standard_normal(parameter.shape)).float()
    assert stood > 15
    assert searches > 5


def remembered(widths, scores, gone, cost, budget):
    """Return the threshold over channels of some groups once their scores are remembered."""
    groups = np.repeat(np.arange(len(widths)), widths)
    channels = Channels(group=groups, segment=groups, by_gain=np.zeros(len(groups), dtype=bool))
    found = Threshold(channels, np.array(widths), SimpleNamespace(kind="", full=0.0, cost=cost), budget, emptying=False)
    found.remember(np.array(scores), gone)
    return found


def weighted(widths):
    """Cost ten for each channel of the first group, one for each of the second."""
    return float(widths @ np.array([10, 1]))


def test_the_same_channels_are_not_kept_if_fewer_would_do():
    gone = np.array([True, False, True, False])
    found = remembered([2, 2], [1.0, 5.0, 0.5, 6.0], gone, weighted, 12.0)
    assert found.find(np.array([1.1, 5.0, 0.5, 6.0])) is gone  # without the first group's channel 21 would be left
    assert found.find(np.array([0.4, 5.0, 0.5, 6.0])) is None  # that of the second may stay: 12 are left without it
    assert found.find(np.array([0.5, 5.0, 0.5, 6.0])) is None  # nor where both are the highest that go


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_no_set_is_kept_if_a_score_is_not_finite(odd, where):
    gone, scores = np.array([True, False]), np.array([1.0, 2.0])
    found = remembered([2], scores, gone, lambda widths: float(widths.sum()), 1.0)
    assert found.find(scores) is gone
    scores[where] = odd
    assert found.find(scores) is None


def test_a_threshold_that_moved_a_little_is_found_again_without_the_full_order():
    gone, moved = np.array([True, False, True, False]), np.array([1.0, 5.0, 1.001, 6.0])
    found = remembered([2, 2], [1.0, 5.0, 0.5, 6.0], gone, weighted, 12.0)
    assert found.find(moved).tolist() == [True, False, False, False]  # the one of the second group may stay
    assert found.find(moved) is found.find(moved)


def test_nothing_is_found_before_a_threshold_is_remembered():
    groups = np.zeros(2, dtype=np.int64)
    channels = Channels(group=groups, segment=groups, by_gain=groups == 0)
    costs = SimpleNamespace(kind="", full=2.0, cost=lambda widths: float(widths.sum()))
    assert Threshold(channels, np.array([2]), costs, 1.0, emptying=False).find(np.array([1.0, 2.0])) is None
