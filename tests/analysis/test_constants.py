"""What the weights of a program make constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from swdc.analysis.constants import Constants
from swdc.channels.dead_values import UNKNOWN
from swdc.ir.call import Call, Ref
from swdc.ops import calls
from tests.support import conv, image, traced


@pytest.fixture
def call() -> Call:
    """A padded convolution of three channels."""
    ((_, found),) = calls(traced(nn.Sequential(conv(3, 2, padding=1)), image(2, 3, 4, 4))).values()
    return found


def test_a_slice_that_holds_one_number_is_constant() -> None:
    constants = Constants({"w": torch.tensor([[1.0, 1.0], [0.0, 2.0]]), "c": torch.ones(2, dtype=torch.complex64)})
    rows, columns = constants(Ref("w"))
    np.testing.assert_equal(rows, [1, UNKNOWN])
    np.testing.assert_equal(columns, [UNKNOWN, UNKNOWN])
    np.testing.assert_equal(constants(Ref("c")), [UNKNOWN])


def test_a_rule_may_change_what_it_is_given() -> None:
    constants = Constants({"w": torch.zeros(2, 3)})
    constants(Ref("w")).pop()
    assert len(constants(Ref("w"))) == 2


def test_statistics_from_training_are_known() -> None:
    constants = Constants({"mean": torch.tensor([1.0, 2.0]), "variance": torch.tensor([4.0, 1.0])})
    centred = constants.centred(np.array([3.0, UNKNOWN]), Ref("mean"), Ref("variance"), 0.0)
    np.testing.assert_equal(centred, [1, UNKNOWN])


def test_a_single_channel_is_followed_and_its_writers_are_not_sure_to_be_zero() -> None:
    constants = Constants({})
    assert constants.follows(None)
    assert np.isnan(constants.zeroed())
    assert constants.zeroed(0.5) == 0.5


def test_the_largest_constant_carries_the_others(call: Call) -> None:
    constants = Constants({})
    labels, dead = np.arange(5, 9), np.array([0.5, UNKNOWN, -2.0, 0.0])
    (carrier, text), (unknown, _) = constants.absorb(call, labels, dead, folds=False, carries=True)
    assert carrier.tolist() == [7]
    assert "carries" in text
    assert unknown.tolist() == [6]
    assert constants.carried[call.node.name].values.tolist() == [0.5, 0, -2, 0]
    assert constants.carried[call.node.name].carrier == 2


@pytest.mark.parametrize("dead", [[0.5, UNKNOWN, 0.0], [0.5, 0.25, 0.0]])
def test_nothing_is_carried_for_one_channel_or_where_the_call_cannot(dead: list[float], call: Call) -> None:
    constants = Constants({})
    ((left, _),) = constants.absorb(call, np.arange(3), np.array(dead), folds=False, carries=dead[1] != 0.25)
    assert left.tolist() == [0, 1]
    assert not constants.carried
