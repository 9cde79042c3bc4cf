"""Dropout, parametric activations and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swdc.channels.dead_values import UNKNOWN
from swdc.ops import leaf_of, lookup
from swdc.ops.special_activations import zero_only
from tests.support import (
    Function,
    assert_slims,
    certified,
    conv,
    identity_of,
    image,
    members,
    operators,
    plan_of,
    reason_at,
    traced,
)


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), nn.Dropout2d(0.5)])
def test_channels_pass_dropout(drop: nn.Module) -> None:
    program = assert_slims(nn.Sequential(conv(3, 6), nn.ReLU(), drop, conv(6, 2)))
    assert type(drop).__name__ in operators(program)
    assert members(program) == [{"0.weight[0]", "0.bias[0]", "3.weight[1]"}]


@pytest.mark.parametrize("rank", [1, 3])
def test_channels_pass_dropout_of_maps(rank: int) -> None:
    layer, drop = {1: (nn.Conv1d, nn.Dropout1d), 3: (nn.Conv3d, nn.Dropout3d)}[rank]
    program = assert_slims(
        nn.Sequential(layer(3, 6, 1), nn.ReLU(), drop(0.5), layer(6, 2, 1)), image(1, 3, *[4] * rank)
    )
    assert drop.__name__ in operators(program)
    program.train()
    x = image(2, 3, *[4] * rank)
    assert not torch.equal(program(x), program(x))


@pytest.mark.parametrize("drop", [nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)])
def test_channels_pass_alpha_dropout(drop: nn.Module) -> None:
    with pytest.warns(UserWarning, match="keeps its evaluation mode in training"):
        program = traced(nn.Sequential(conv(3, 6), nn.SELU(), drop, conv(6, 2)))
    certified(program)
    assert len(program.groups) == 1


def test_alpha_dropout_that_never_stops_freezes() -> None:
    program = traced(Function(lambda m, x: m.d(F.alpha_dropout(m.c(x), 0.5, True)), c=conv(3, 6), d=conv(6, 2)))
    assert "its dead value" in reason_at(program, "c.weight", 0)


def test_a_random_slope() -> None:
    with pytest.warns(UserWarning, match="keeps its evaluation mode in training"):
        program = traced(nn.Sequential(conv(3, 6), nn.RReLU(), conv(6, 2)))
    certified(program)
    assert len(program.groups) == 1


def test_a_gate_and_what_it_gates_go_together() -> None:
    program = assert_slims(nn.Sequential(conv(3, 12), nn.GLU(1), conv(6, 2)))
    assert [group.width for group in program.groups] == [6]
    assert program.groups[0].members[0].indices[1].tolist() == [1, 7]
    _, slim = certified(program, plan_of(program, {"0": [0, 4]}))
    assert slim.get_parameter("0.weight").shape[0] == 4


def test_a_gate_of_constants_and_of_positions() -> None:
    folded = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.GLU(), nn.Linear(4, 2))
    assert [group.width for group in assert_slims(folded, image(2, 5)).groups] == [4]
    assert_slims(Function(lambda m, x: m.d(F.glu(torch.sigmoid(m.c(x)), 3)), c=conv(3, 6), d=conv(6, 2, 1)))


def test_a_gate_on_halves_of_different_constants() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.glu(torch.cat([torch.exp(m.a(x)), torch.cos(m.b(x))], 1)))

    model = Function(forward, a=nn.Linear(5, 6), b=nn.Linear(5, 6), d=nn.Linear(6, 2))
    assert [group.width for group in assert_slims(model, image(2, 5)).groups] == [6]


def test_a_constant_under_dropout_is_not_constant() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(8, 2)), image(2, 5))
    assert "its dead value" in reason_at(program, "0.weight", 0)


def test_dropout_that_never_stops_stays_a_function() -> None:
    program = traced(Function(lambda m, x: m.d(F.dropout(m.c(x), 0.5)), c=conv(3, 6), d=conv(6, 2)))
    assert "aten.dropout.default" in operators(program)


@pytest.mark.parametrize("slopes", [1, 6])
def test_learnt_slopes(slopes: int) -> None:
    program = assert_slims(nn.Sequential(conv(3, 6), nn.PReLU(slopes), conv(6, 2)))
    assert ("1.weight[0]" in members(program)[0]) == (slopes == 6)
    masked, slim = certified(program, plan_of(program, {"0": [0, 4]}))
    assert slim.get_submodule("1").num_parameters == (2 if slopes == 6 else 1)
    assert torch.equal(masked.get_parameter("1.weight"), program.get_parameter("1.weight"))


@pytest.mark.parametrize("softmax", [F.softmax, F.log_softmax])
def test_a_softmax_over_channels_holds_them(softmax: Any) -> None:
    for dim in (1, -3):
        program = traced(Function(lambda m, x, dim=dim: m.d(softmax(m.c(x), dim=dim)), c=conv(3, 6), d=conv(6, 2)))
        assert "normalises over the channels" in reason_at(program, "c.weight", 0)


def test_a_softmax_over_positions_gives_an_unknown_constant() -> None:
    program = traced(Function(lambda m, x: m.d(F.softmax(m.c(x), dim=3)), c=conv(3, 6), d=conv(6, 2)))
    assert "its dead value" in reason_at(program, "c.weight", 0)
    gated = Function(lambda m, x: m.d(m.c(x) * F.softmax(m.e(x), dim=3)), c=conv(3, 6), e=conv(3, 6), d=conv(6, 2))
    assert len(assert_slims(gated).groups) == 1


def test_zero_only() -> None:
    assert zero_only(0.0) == 0.0
    assert np.isnan(zero_only(0.5))
    assert np.array_equal(zero_only(np.array([0.0, 0.5])), [0.0, UNKNOWN], equal_nan=True)


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), nn.Dropout1d(0.5), nn.Dropout2d(0.5), nn.Dropout3d(0.5)])
def test_a_dropout_can_be_made_to_scale_instead(drop: nn.Module) -> None:
    leaf_of(drop).drop_nothing(drop)
    x = image(2, 3, *[4] * {nn.Dropout3d: 3, nn.Dropout2d: 2}.get(type(drop), 1))
    assert torch.equal(drop.train()(x), x * 1.5)
    assert torch.equal(drop.eval()(x), x)


def test_other_leaves_drop_nothing() -> None:
    norm = nn.BatchNorm2d(3)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    leaf_of(norm).drop_nothing(norm)
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())


@pytest.mark.filterwarnings("ignore:aten.*keeps its evaluation mode in training")
def test_a_dropout_gives_back_what_it_reads_unless_it_drops_in_evaluation_too() -> None:
    for always, share, given_back in ((False, 0.5, True), (True, 0.0, True), (True, 0.5, False)):
        model = Function(lambda m, x, a=always, p=share: F.alpha_dropout(m.c(x), p, a), c=conv(3, 6))
        assert (identity_of(traced(model), "aten.alpha_dropout.default") is not None) is given_back


def test_a_softmax_is_never_negative_but_its_logarithm_is() -> None:
    assert lookup("aten.softmax.int").not_negative
    assert not lookup("aten.log_softmax.int").not_negative


@pytest.mark.parametrize("slopes", [(), (1,)])
def test_one_slope_for_a_vector(slopes: tuple[int, ...]) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(F.prelu(m.a(x.mean(0)), m.slope))

    model = Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2), slope=nn.Parameter(torch.rand(slopes)))
    assert_slims(model, image(3, 5), seeds=(0,))
