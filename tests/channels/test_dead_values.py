"""What dead channels hold, and what a mask's own answers are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from swdc.channels.dead_values import UNKNOWN, Masked, affine, at, followed, in_type, number, product
from swdc.ir.call import Call, Ref
from swdc.ops import calls
from tests.support import image, traced


@pytest.fixture
def call() -> Call:
    """A dense layer."""
    ((_, found),) = calls(traced(nn.Sequential(nn.Linear(3, 2)), image(2, 3))).values()
    return found


@pytest.fixture
def masked() -> Masked:
    """What a mask makes of one weight, with its bias."""
    return Masked({"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)})


def test_a_gain_of_zero_leaves_the_shift() -> None:
    assert affine(0.0, 0.5) == 0.5
    assert np.isnan(affine(2.0, 0.5))
    np.testing.assert_equal(affine(np.array([0.0, 1.0]), 0.5), [0.5, UNKNOWN])


def test_a_factor_of_zero_decides() -> None:
    assert product(0.0, UNKNOWN) == 0
    assert product(2.0, 3.0) == 6
    np.testing.assert_equal(product(np.array([0.0, 1.0]), UNKNOWN), [0, UNKNOWN])


def test_one_value_stands_for_all_indices() -> None:
    assert at(0.5, slice(2, 3)) == 0.5
    assert at(np.array([1.0, 2.0]), np.array([1])) == [2.0]


def test_a_mask_zeroes_what_writes_a_channel_and_nothing_else(masked: Masked, call: Call) -> None:
    assert masked(Ref("0.weight")) == [0.0, 0.0]
    assert masked.zeroed() == 0.0
    assert masked.written(call, UNKNOWN, folds=True) == 0.0
    assert np.isnan(masked.centred(0.0, Ref("0.bias"), Ref("0.bias"), 1e-5))
    assert np.isnan(masked.arriving(call["input"], 1, Ref("0.weight"), 1))
    masked.set(call, [UNKNOWN, 0.5])
    assert masked.arriving(call.node, 1, Ref("0.weight"), 1) == 0.5


def test_only_what_has_labels_can_be_masked(masked: Masked) -> None:
    assert masked.follows(np.arange(2))
    assert not masked.follows(None)


def test_what_a_bias_cannot_take_over_has_to_stay(masked: Masked, call: Call) -> None:
    labels, dead = np.arange(5, 8), np.array([0.0, 0.5, UNKNOWN])
    ((left, text),) = masked.absorb(call, labels, dead, folds=True, carries=False)
    assert left.tolist() == [7]
    assert "not a constant that can be folded" in text
    found = masked.folded[call.node.name]
    assert found.weight == "0.weight"
    assert found.values.tolist() == [0, 0.5, 0]


def test_without_a_bias_to_take_it_over_only_zero_may_go(masked: Masked, call: Call) -> None:
    ((left, _),) = masked.absorb(call, np.arange(3), np.array([0.0, 0.5, UNKNOWN]), folds=False, carries=True)
    assert left.tolist() == [1, 2]
    assert not masked.folded


def test_only_what_is_finite_and_belongs_to_channels_is_followed() -> None:
    labels = np.arange(2)
    assert followed(0.5, labels, 2) == 0.5
    assert followed(0.5, None, 1) == 0.5
    assert np.isnan(followed(0.5, None, 2))
    assert np.isnan(followed(np.inf, labels, 2))
    assert np.isnan(followed(np.array([0.0, 1.0, 2.0]), labels, 3))
    np.testing.assert_equal(followed(np.array([0.0, -np.inf]), labels, 2), [0.0, UNKNOWN])


def test_a_type_holds_what_it_can() -> None:
    assert in_type(2.7, torch.int64) == 2
    assert in_type(-2.7, torch.int8) == -2
    assert in_type(0.3, torch.bool) == 1
    assert in_type(0.3, torch.float16) == 0.3
    assert in_type(70000.0, torch.float16) == np.inf
    np.testing.assert_equal(
        in_type(np.array([300.0, -1.0, 255.9, UNKNOWN]), torch.uint8), [UNKNOWN, UNKNOWN, 255, UNKNOWN]
    )
    assert np.isnan(in_type(UNKNOWN, torch.bool))


def test_only_real_literals_are_known() -> None:
    assert number(True) == 1.0
    assert np.isnan(number(1j))
    assert np.isnan(number(None))
