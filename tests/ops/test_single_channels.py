"""Channels that are taken out one by one: what is computed from each vanishes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.rewriting.deploy import deploy
from swdc.sparsity.planning.budgets import Budget
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    frozen_at,
    image,
    operators,
    plan_of,
    random_plan,
    randomise,
    reason_at,
    traced,
    vector_net,
)


@pytest.mark.parametrize(
    ("function", "width"),
    [
        (lambda y: torch.stack([y[:, i].sin() for i in range(y.shape[1])], 1), 8),
        (lambda y: torch.stack([y[:, -i] * 2 for i in range(8)], -1), 8),
        (lambda y: torch.stack([c.sigmoid() for c in y.unbind(1)], 1), 8),
        (lambda y: torch.stack([y[:, i] for i in (0, 0, 1, 2, 3, 4, 5, 6, 7)], 1), 9),
        (lambda y: torch.stack([c + 1 for c in y.unbind(1)]).T, 8),
        (lambda y: torch.cat([y[:, i : i + 1].exp() for i in range(8)], 1), 8),
        (lambda y: torch.cat([y[:, i, None] - (i if i % 2 else 0) for i in range(8)], 1), 8),
        (lambda y: torch.stack([y.narrow(1, i, 1).squeeze(1).double() for i in range(8)], 1), 8),
        (lambda y: torch.stack([y[:, i] * y.sigmoid()[:, i] for i in range(8)], 1), 8),
        (lambda y: torch.column_stack([y[:, i] for i in range(8)]), 8),
    ],
)
def test_channels_that_come_back_one_by_one_can_go(function: Any, width: int) -> None:
    program = assert_slims(vector_net(function, width), image(4, 5))
    assert sum(group.width for group in program.groups) == 8


def test_the_slim_program_lacks_the_calls_of_removed_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.stack([torch.tanh(y[:, i] * w) for i, w in enumerate(m.weights)], 1))

    weights = nn.ParameterList([torch.randn(()) for _ in range(4)])
    model = Function(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 2), weights=weights)
    program = traced(model, image(3, 5))
    _, slim = certified(program, plan_of(program, {"a": [1, 3]}))
    assert operators(slim).count("aten.tanh.default") == 2
    assert [n.args[2] for n in slim.graph.nodes if "select" in str(n.target)] == [0, 1]
    assert [name for name in slim.tensors if name.startswith("weights")] == ["weights.1", "weights.3"]
    assert_same(slim(image(7, 5)), deploy(slim)(image(7, 5)))


def test_items_of_a_dimension_are_numbered_anew() -> None:
    program = traced(vector_net(lambda y: torch.stack([c.square() for c in y.unbind(1)], 1)), image(3, 5))
    _, slim = certified(program, plan_of(program, {"a": [0, 2, 7]}))
    assert [n.args[1] for n in slim.graph.nodes if "getitem" in str(n.target)] == [0, 1, 2]


def test_a_function_for_each_input_and_output() -> None:
    """The symbolic layer of pykan: y_j = sum over i of m_ji (c_ji f(a_ji x_i + b_ji) + d_ji)."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        outer = []
        for i in range(6):
            p = [m.affine[j, i] for j in range(4)]
            inner = [m.mask[j][i] * (q[2] * torch.sin(q[0] * y[:, i] + q[1]) + q[3]) for j, q in enumerate(p)]
            outer.append(torch.stack(inner, 1))
        return m.b(torch.stack(outer, 2).sum(2))

    parts = {"affine": nn.Parameter(torch.randn(4, 6, 4)), "mask": nn.Parameter(torch.randn(4, 6))}
    program = assert_slims(Function(forward, a=nn.Linear(5, 6), b=nn.Linear(4, 2), **parts), image(3, 5))
    assert sorted(group.width for group in program.groups) == [4, 6]
    assert {str(f.reason).split(" at ")[0] for f in frozen_at(program, "affine", 2)} == {
        "aten.select.int: reads a channel by its number"
    }


@pytest.mark.parametrize(
    "function",
    [
        lambda y: sum(y[:, i : i + 1] for i in range(8)).expand(-1, 8),
        lambda y: y[:, :1] @ torch.ones(1, 8, dtype=y.dtype),
        lambda y: torch.stack([y[:, i].cumsum(0) for i in range(8)], 1),
    ],
)
def test_channels_whose_values_meet_something_else_stay(function: Any) -> None:
    program = traced(vector_net(function), image(3, 5))
    held = [str(f.reason) for f in program.frozen if f.tensor == "a.weight" and f.dim == 0]
    assert held
    assert all("reads a channel by its number" in reason and "test_single_channels.py:" in reason for reason in held)


def test_channels_that_are_not_defined_without_stay() -> None:
    program = traced(vector_net(lambda y: torch.stack([1 / y[:, i] for i in range(8)], 1)), image(3, 5))
    assert not program.groups


def test_channels_of_one_value_go_together() -> None:
    def pairs(y: torch.Tensor) -> torch.Tensor:
        return torch.stack([y[:, 2 * i] * y[:, 2 * i + 1].tanh() for i in range(4)], 1)

    program = assert_slims(vector_net(pairs, 4), image(3, 5), seeds=[0])
    assert sorted(f"{group.width} x {group.members[0].indices.shape[1]}" for group in program.groups) == ["4 x 2"]


def test_a_stack_of_a_channel_with_something_else_keeps_that() -> None:
    program = assert_slims(vector_net(lambda y: torch.stack([*y.unbind(1), y.new_ones(len(y))], 1), 9), image(3, 5))
    assert [group.width for group in program.groups] == [8]
    assert "stacked with a tensor that holds no channel" in reason_at(program, "b.weight", 1)


def test_a_value_of_very_many_channels_keeps_them() -> None:
    def total(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.stack([sum(y[:, i] for i in range(70)), y[:, 0]], 1))

    program = traced(Function(total, a=nn.Linear(5, 70), b=nn.Linear(2, 2)), image(3, 5))
    assert not program.groups


def test_a_class_whose_loop_asks_for_the_size_takes_the_slim_tensors() -> None:
    model = vector_net(lambda y: torch.stack([(y[:, i] + 1).square() for i in range(y.shape[1])], 1))
    model = randomise(model).eval()
    program = swdc.trace(model, image(3, 5))
    slim = swdc.slim(program, plan_of(program, {"a": [0, 3, 4]}))
    mine = swdc.transplant(slim, model)
    assert mine.a.out_features == 3
    assert_same(slim(image(6, 5)), mine(image(6, 5)))


STEPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "one index by a step": lambda y: torch.cat([y[:, 3::5], y[:, :3], y[:, 4:]], 1),
    "each index by a step": lambda y: torch.cat([y[:, i::8] for i in range(8)], 1),
    "the last by a step": lambda y: y[:, 7::3] * y,
    "two indices each, one each once cut": lambda y: torch.cat([y[:, i::4] for i in range(4)], 1),
}


@pytest.mark.parametrize("code", STEPS.values(), ids=STEPS)
def test_ranges_with_a_step_that_take_one_index(code: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = Function(lambda m, x: m.b(code(m.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    program = traced(model, image(4, 5))
    for seed in range(3):
        _, slim = certified(program, seed=seed)
        if slim.groups:
            certified(slim, seed=seed)


def weighted(weights: list[nn.Parameter], function: Any) -> Function:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.stack(function(m, m.a(x)), 1))

    return Function(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 2), weights=nn.ParameterList(weights))


@pytest.mark.parametrize("kind", ["parameters", "bytes"])
@pytest.mark.parametrize("kept", [[1], [0, 3], [0, 1, 2]])
def test_a_budget_counts_the_parameters_that_vanish_with_each_channel(kind: str, kept: list[int]) -> None:
    model = weighted(
        [nn.Parameter(torch.randn(())) for _ in range(4)],
        lambda m, y: [torch.tanh(y[:, i] * w) for i, w in enumerate(m.weights)],
    )
    program = traced(model, image(3, 5))
    plan = plan_of(program, {"a": kept})
    _, slim = certified(program, plan)
    held = {"parameters": 1, "bytes": 8}[kind]
    said = Budget(program, kind).cost(np.array([len(kept)]))
    assert said == held * swdc.count(slim).parameters == held * sum(t.numel() for t in slim.tensors.values())
    assert Budget(program, kind).full == held * swdc.count(program).parameters


def test_parameters_that_vanish_with_some_channels_count_as_if_they_stayed() -> None:
    """Two vanish with the first channel, one with the second."""
    model = weighted(
        [nn.Parameter(torch.randn(())) for _ in range(3)],
        lambda m, y: [
            y[:, 0] * m.weights[0] * m.weights[1], y[:, 1] * m.weights[2], y[:, 2] * 2, y[:, 3] * 3
        ],
    )  # fmt: skip
    program, gone = traced(model, image(3, 5)), set()
    for seed in range(4):
        plan = random_plan(program, seed)
        _, slim = certified(program, plan)
        missing = 3 - sum(name.startswith("weights") for name in slim.tensors)
        said = Budget(program, "parameters").cost(np.array([len(plan.kept[g.name]) for g in program.groups]))
        assert said == swdc.count(slim).parameters + missing
        gone.add(missing)
    assert len(gone) > 1


def test_a_budget_counts_the_parameters_of_pairs_of_channels() -> None:
    """A weight for each of 4 outputs and 6 inputs: it vanishes with either."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        inner = [
            torch.stack([m.weights[4 * i + j] * m.mask[j, i] * y[:, i].sin() for j in range(4)], 1) for i in range(6)
        ]
        return m.b(torch.stack(inner, 2).sum(2))

    weights = nn.ParameterList([nn.Parameter(torch.randn(())) for _ in range(24)])
    parts = {"weights": weights, "mask": nn.Parameter(torch.randn(4, 6))}
    program = traced(Function(forward, a=nn.Linear(5, 6), b=nn.Linear(4, 2), **parts), image(3, 5))
    widths = {group.name: group.width for group in program.groups}
    assert sorted(widths.values()) == [4, 6]
    plan = plan_of(program, {name: [0, 2] if width == 4 else [1, 2, 5] for name, width in widths.items()})
    _, slim = certified(program, plan)
    assert len([name for name in slim.tensors if name.startswith("weights")]) == 6
    said = Budget(program, "parameters").cost(np.array([2 if width == 4 else 3 for width in widths.values()]))
    assert said == swdc.count(slim).parameters
