"""Recurrent layers: gates, states, directions, projections, cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.ir.program import Program
from tests.support import Function, assert_slims, certified, group_with, image, members, plan_of, reason_at, traced

X = image(2, 3, 5)
LAYERS = [nn.LSTM, nn.GRU, nn.RNN]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def between(layer: nn.Module, width: int, item: int = 0) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.tanh(m.r(torch.tanh(m.a(x)))[item]))

    return Function(forward, a=nn.Linear(5, 4), r=layer, d=nn.Linear(width, 3))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_unit_owns_one_row_of_every_gate(layer: Any) -> None:
    program = assert_slims(between(layer(4, 6, batch_first=True), 6), X)
    rows = {f"r.{name}_l0[0]" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    assert members(program) == [
        {"a.weight[0]", "a.bias[0]", "r.weight_ih_l0[1]"},
        {*rows, "r.weight_hh_l0[1]", "d.weight[1]"},
    ]
    gates = GATES[layer.__name__]
    assert program.groups[1].members[0].indices[2].tolist() == [2 + 6 * gate for gate in range(gates)]
    _, slim = certified(program, plan_of(program, {"a": [1], "r.weight_ih_l0": [0, 5]}))
    assert slim.get_parameter("r.weight_ih_l0").shape == (2 * gates, 1)
    assert slim.get_parameter("r.weight_hh_l0").shape == (2 * gates, 2)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("number", "bidirectional"), [(2, False), (1, True), (2, True)])
def test_layers_and_directions_keep_the_same_units(layer: Any, number: int, bidirectional: bool) -> None:
    directions = 1 + bidirectional
    made = layer(4, 6, number, bidirectional=bidirectional, bias=number == 1, batch_first=True)
    program = assert_slims(between(made, 6 * directions), X, seeds=[0])
    assert [group.width for group in program.groups] == [4, 6]
    below = [m for m in program.groups[1].members if m.tensor == f"r.weight_ih_l{number - 1}"]
    assert {m.dim for m in below} == ({0, 1} if number > 1 else {0})
    assert below[-1].multiplicity == (directions if number > 1 else GATES[layer.__name__])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_plain_layer_of_either_kind(nonlinearity: str) -> None:
    assert_slims(between(nn.RNN(4, 6, nonlinearity=nonlinearity, batch_first=True), 6), X, seeds=[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_projection_has_channels_of_its_own(bidirectional: bool) -> None:
    layer = nn.LSTM(4, 6, 2, batch_first=True, proj_size=3, bidirectional=bidirectional)
    program = assert_slims(between(layer, 6 if bidirectional else 3), X, seeds=[0, 1])
    assert [group.width for group in program.groups] == [4, 3]
    assert {"r.weight_hr_l0[0]", "r.weight_hh_l0[1]", "d.weight[1]"} <= members(program)[1]
    assert "narrower than its cells" in reason_at(program, "r.weight_hr_l1", 1)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_last_state_carries_the_units(layer: Any) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        state = m.r(torch.tanh(m.a(x)))[1]
        first, last = state if isinstance(state, tuple) else (state, state)
        return m.d(first.sum(0) * torch.tanh(last).mean(0))

    model = Function(forward, a=nn.Linear(5, 4), r=layer(4, 6, 2, batch_first=True), d=nn.Linear(6, 3))
    assert [group.width for group in assert_slims(model, X, seeds=[0, 1]).groups] == [4, 6]


def with_state(make: Any) -> Program:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        state = make(m, x)
        return m.d(m.r(m.a(x), (state, state.tanh()))[0])

    parts = {"h": nn.Parameter(torch.randn(1, 1, 6)), "s": nn.Linear(5, 6)}
    model = Function(forward, a=nn.Linear(5, 4), r=nn.LSTM(4, 6, batch_first=True), d=nn.Linear(6, 3), **parts)
    return traced(model, X)


def test_a_state_that_is_learnt_is_cut_and_masked() -> None:
    program = with_state(lambda m, x: m.h.expand(-1, x.shape[0], -1))
    certified(program)
    assert "h[2]" in {f"{m.tensor}[{m.dim}]" for m in group_with(program, "r.weight_hh_l0[1]").with_role("writes")}


def test_a_state_that_is_computed_goes_with_the_units() -> None:
    program = with_state(lambda m, x: m.s(x[:, 0])[None])
    certified(program)
    assert "s.weight[0]" in {f"{m.tensor}[{m.dim}]" for m in group_with(program, "r.weight_hh_l0[1]").members}


def test_a_state_that_does_not_start_at_zero_holds_the_units() -> None:
    program = with_state(lambda m, x: torch.sigmoid(m.s(x[:, 0]))[None])
    assert "not zero where the unit is dead" in reason_at(program, "r.weight_hh_l0", 1)
    assert [group.name for group in program.groups] == ["a"]


def test_computed_weights_are_frozen() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.GRU(4, 6, batch_first=True), "weight_hh_l0")
    program = traced(between(layer, 6), X)
    assert "weights that are computed" in reason_at(program, "r.weight_ih_l0", 1)


def test_one_unit_cannot_go() -> None:
    program = assert_slims(between(nn.LSTM(4, 1, batch_first=True), 1), X)
    assert [group.name for group in program.groups] == ["a"]


def test_a_constant_input_is_not_folded() -> None:
    model = Function(
        lambda m, x: m.d(m.r(torch.sigmoid(m.a(x)))[0]),
        a=nn.Linear(5, 4),
        r=nn.GRU(4, 6, batch_first=True),
        d=nn.Linear(6, 3),
    )
    assert "its dead value" in reason_at(traced(model, X), "a.weight", 0)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_in_a_loop(cell: Any) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        state = None
        for step in range(3):
            state = m.r(torch.tanh(m.a(x[:, step])), state)
        return m.d(state[0] if isinstance(state, tuple) else state)

    program = assert_slims(Function(forward, a=nn.Linear(5, 4), r=cell(4, 6), d=nn.Linear(6, 3)), X)
    assert [group.width for group in program.groups] == [4, 6]


def test_without_a_batch_and_time_first() -> None:
    for shape in ((7, 5), (7, 2, 5)):
        assert_slims(between(nn.GRU(4, 6), 6), image(*shape), seeds=[0])


def test_costs_by_hand() -> None:
    program = traced(between(nn.LSTM(4, 6, bidirectional=True, batch_first=True, proj_size=3), 6), X)
    dense, steps = 5 * 4 + 6 * 3, 3
    one = 4 * 24 + 3 * 24 + 6 * 3
    assert swdc.count(program, "macs").operations == steps * (dense + 2 * one)
    assert swdc.count(program, "paper").operations == steps * (dense + 7 + 2 * (one + 24 + 24 + 3))
