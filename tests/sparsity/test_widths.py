"""Widths of groups: even ones in repeated blocks, the largest share that a group may lose, shares by pattern."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.networks import resnet20
from tests.support import Function, image, random_plan, traced


def feed_forward(width: int, inner: int) -> nn.Module:
    return Function(lambda m, x: x + m.b(torch.relu(m.a(x))), a=nn.Linear(width, inner), b=nn.Linear(inner, width))


@pytest.fixture
def program() -> Program:
    """Three equal blocks whose weights differ in size, and one that is wider; named without a pattern."""
    model = nn.Sequential(nn.Linear(5, 8), *(feed_forward(8, width) for width in (16, 16, 24, 16)), nn.Linear(8, 3))
    traced_program = traced(model, image(2, 5))
    with torch.no_grad():
        traced_program.tensors["2.a.weight"].mul_(7)
        traced_program.tensors["4.a.weight"].mul_(0.2)
    return traced_program


def widths(plan: swdc.Plan) -> dict[str, int]:
    return {name: len(kept) for name, kept in plan.kept.items()}


BLOCKS = ("1.a", "2.a", "4.a")


@pytest.mark.parametrize("budget", ["channels", "parameters", "macs"])
@pytest.mark.parametrize("round_to", [1, 4])
def test_even_plans_give_equal_blocks_equal_widths(program: Program, budget: str, round_to: int) -> None:
    settings = {"budget": budget, "round_to": round_to, "ignore": "0"}
    plan = swdc.plan(program, 0.4, even=True, **settings)
    found, uneven = (widths(p) for p in (plan, swdc.plan(program, 0.4, criterion=by_size, **settings)))
    assert len({found[name] for name in BLOCKS}) == 1
    assert len({uneven[name] for name in BLOCKS}) > 1
    assert all(width % round_to == 0 for width in found.values())
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact


def by_size(program: Program, groups: object, weights: object = None) -> list[np.ndarray]:
    """Score channels by the sum of their weights, so that blocks of small weights lose theirs first."""
    return [np.asarray(program.tensors[f"{g.name}.weight"].abs().sum(1).detach()) for g in groups]  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget", ["parameters", "macs"])
def test_even_plans_meet_the_budget_closely(program: Program, budget: str) -> None:
    slim = swdc.slim(program, swdc.plan(program, 0.4, budget=budget, even=True))
    counts = [swdc.count(each, "macs") for each in (program, slim)]
    before, after = ((c.parameters, c.operations)[budget == "macs"] for c in counts)
    assert 0.5 * before < after <= 0.6 * before


def test_even_plans_keep_the_channels_that_are_best_in_each_block(program: Program) -> None:
    plan = swdc.plan(program, 0.5, even=True)
    tensors = {name: tensor.detach().double().square() for name, tensor in program.tensors.items()}
    norms = tensors["1.a.weight"].sum(1) + tensors["1.a.bias"] + tensors["1.b.weight"].sum(0)
    kept = plan.kept["1.a"]
    gone = sorted(set(range(16)) - set(kept))
    assert norms[list(kept)].min() > norms[gone].max()


def test_blocks_of_a_stage_are_even_and_stages_are_apart() -> None:
    program = traced(resnet20(8), image(2, 3, 32, 32))
    found = widths(swdc.plan(program, 0.5, even=True, criterion="l1"))
    inner = {group.name: group.width for group in program.groups if len(group.with_role("reads")) == 1}
    assert len(inner) == 9
    assert len({(width, found[name]) for name, width in inner.items()}) == 3


@pytest.mark.parametrize("scope", ["global", "group"])
def test_no_group_loses_more_than_at_most(program: Program, scope: str) -> None:
    plan = swdc.plan(program, 0.6, scope=scope, at_most={"4.a": 0.25, "3.*": 0.5}, criterion=by_size)
    found = widths(plan)
    assert found["4.a"] >= 12
    assert found["3.a"] >= 12
    everywhere = widths(swdc.plan(program, 0.5, at_most=0.5, criterion=by_size))
    assert all(found == plan.widths[name] / 2 for name, found in everywhere.items())


def test_a_budget_beyond_at_most_is_refused(program: Program) -> None:
    with pytest.raises(PlanError, match="while every group keeps its share of at_most; lower the sparsity"):
        swdc.plan(program, 0.6, at_most=0.5)


@pytest.mark.parametrize("scope", ["global", "group"])
def test_shares_by_pattern(program: Program, scope: str) -> None:
    plan = swdc.plan(program, {"1.a": 0.5, "[24].a": 0.25}, scope=scope, criterion=by_size)
    found = widths(plan)
    assert found["1.a"] == 8
    assert found["3.a"] == 24
    assert found["2.a"] + found["4.a"] == 24
    assert (found["2.a"] == found["4.a"]) == (scope == "group")
    assert plan.settings["sparsity"] == {"1.a": 0.5, "[24].a": 0.25}


def test_shares_by_pattern_are_of_channels(program: Program) -> None:
    with pytest.raises(PlanError, match="expected one number as the sparsity of budget='macs'"):
        swdc.plan(program, {"1.a": 0.5}, budget="macs")
    with pytest.raises(PlanError, match=r"expected a sparsity .* got 1\.5"):
        swdc.plan(program, {"1.a": 1.5})
    with pytest.raises(PlanError, match="expected sparsity for groups of this program, but 'q' names none"):
        swdc.plan(program, {"q": 0.5})
    with pytest.raises(PlanError, match="expected at_most as a share between 0 and 1, got 2"):
        swdc.plan(program, 0.5, at_most=2)


@pytest.mark.parametrize("round_to", [1, 8])
def test_the_same_share_of_every_group_is_the_same_width_for_equal_widths(program: Program, round_to: int) -> None:
    found = widths(swdc.plan(program, 0.3, budget="parameters", scope="group", round_to=round_to))
    assert len({found[name] for name in BLOCKS}) == 1


def test_plans_with_these_settings_go_through_json(program: Program) -> None:
    plan = swdc.plan(program, {"*.a": 0.5}, at_most={"*": 0.75}, even=True)
    assert swdc.Plan.from_dict(plan.to_dict()) == plan
    random_plan(program)
