"""Plans that remove more than an earlier plan: whole branches, then heads, then channels, under one certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.planning.budgets import Budget
from swdc.sparsity.planning.earlier import Earlier
from swdc.sparsity.planning.latency import Latency
from tests.sparsity.test_blocks import TOKENS, Block, given, images, scored, transformer
from tests.sparsity.test_latency import blocks
from tests.support import assert_same, traced


def stemmed() -> Program:
    """Return a transformer whose stream can lose channels, too."""
    torch.manual_seed(0)
    return traced(nn.Sequential(nn.Linear(8, 8), Block(), Block(), nn.Linear(8, 3)), TOKENS)


def depth_of(program: Program, share: float = 0.25, **options: Any) -> Plan:
    return swdc.plan(program, share, "blocks", given(scored(program)), structure="blocks", **options)


def sizes(program: Program) -> dict[str, float]:
    return {
        "parameters": swdc.count(program).parameters,
        "bytes": sum(tensor.nbytes for tensor in program.read_state().values()),
        "operations": swdc.count(program).operations,
        "macs": swdc.count(program, "macs").operations,
    }


@pytest.mark.parametrize("make", [transformer, images, stemmed])
def test_depth_and_width_go_in_one_plan(make: Any, tmp_path: Path) -> None:
    program = make()
    depth = depth_of(program)
    both = swdc.plan(program, 0.5, "parameters", after=depth)
    assert both.branches == depth.branches
    assert both.removed_channels > 0
    masked, slim = swdc.mask(program, both), swdc.slim(program, both)
    certificate = swdc.verify(masked, slim, batches=(1, 3))
    assert certificate.exact, certificate
    assert swdc.count(slim).parameters <= 0.5 * swdc.count(program).parameters
    assert swdc.count(slim).parameters < swdc.count(swdc.slim(program, depth)).parameters
    swdc.save(slim, tmp_path / "slim", certificate)
    again = swdc.load(tmp_path / "slim")
    assert again.facts.origin.plan.to_dict() == both.to_dict()
    x = program.facts.example[0][0]
    assert torch.equal(again(x), slim(x))


def test_both_are_what_two_cuts_one_after_the_other_are() -> None:
    program = transformer()
    depth = depth_of(program)
    both = swdc.plan(program, 0.5, "parameters", after=depth)
    short = swdc.slim(program, depth)
    groups = {group.name: group for group in short.groups}
    kept = {name: both.kept[name] for name in groups}
    again = swdc.slim(short, Plan(kept, {name: g.width for name, g in groups.items()}, short.hash()))
    assert_same(again(TOKENS), swdc.slim(program, both)(TOKENS))
    assert swdc.mask(program, both).facts.origin.dense is not None
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    assert_same(swdc.mask(program, both)(x), again(x))


@pytest.mark.parametrize("budget", ["parameters", "bytes", "operations", "macs"])
def test_the_formula_of_the_budget_is_what_is_counted(budget: str) -> None:
    program = transformer()
    whole, depth = sizes(program)[budget], depth_of(program)
    for share in (0.4, 0.6):
        plan = swdc.plan(program, share, budget, after=depth)
        assert sizes(swdc.slim(program, plan))[budget] <= (1 - share) * whole
        earlier = Earlier(program, depth)
        costs = earlier.costs(lambda part: Budget(part, budget, program.coupling))
        lost = earlier.lost
        widths = np.array([0 if name in lost else len(kept) for name, kept in plan.kept.items()])
        assert costs.cost(widths) == sizes(swdc.slim(program, plan))[budget]


def test_time_is_that_of_what_is_left() -> None:
    program, table = stemmed(), blocks(1)
    depth = depth_of(program)
    plan = swdc.plan(program, 0.5, "latency", table=table, after=depth)
    slim = swdc.slim(program, plan)
    whole, part = (Latency(one, table, np.ones(len(one.groups), dtype=np.int64)).full for one in (program, slim))
    assert plan.settings["predicted_ms_before"] == pytest.approx(whole)
    assert plan.settings["predicted_ms"] == pytest.approx(part, rel=0.1)  # norms over fewer channels are written out
    assert plan.settings["predicted_ms"] <= 0.5 * whole
    first = swdc.plan(program, 0.2, "latency", table=table)
    assert swdc.plan(program, 0.4, "latency", table=table, after=first).removed_channels > first.removed_channels


def test_a_share_that_the_branches_meet_removes_no_channel() -> None:
    program = transformer()
    depth = depth_of(program, 0.5)
    plan = swdc.plan(program, 0.1, "parameters", after=depth)
    assert plan.removed_channels == 0
    assert plan.branches == depth.branches
    assert plan.settings["after"] == depth.settings


def test_what_only_removed_branches_have_stays_whole_and_is_not_read() -> None:
    program = stemmed()
    depth = depth_of(program)
    assert depth.branches == ("1.attention.out_proj",)
    loud = program.clone()
    with torch.no_grad():
        for name in ("in_proj_weight", "out_proj.weight", "out_proj.bias"):
            values = loud.get_parameter(f"1.attention.{name}")
            values.copy_(1e3 * torch.rand(values.shape, dtype=torch.float64))
    lost = Earlier(program, depth).lost
    assert lost == {"1.attention.in_proj_weight"}
    plans = [swdc.plan(one, {"*": 0.5}, after=depth) for one in (program, loud)]
    assert plans[0].kept == plans[1].kept
    assert all(len(plans[0].kept[name]) == plans[0].widths[name] for name in lost)
    (stream,) = (g for g in program.groups if any(m.tensor == "0.weight" for m in g.members))
    assert swdc.plan(loud, {stream.name: 0.5}).kept != swdc.plan(program, {stream.name: 0.5}).kept
    silent = swdc.slim(program, depth)
    (alone,) = (g for g in silent.groups if any(m.tensor == "0.weight" for m in g.members))
    wanted = swdc.plan(silent, {alone.name: 0.5}).kept[alone.name]
    assert swdc.plan(program, {stream.name: 0.5}, after=depth).kept[stream.name] == wanted


def test_heads_then_channels_of_a_network_without_a_branch() -> None:
    program = transformer()
    depth = depth_of(program)
    heads = swdc.plan(program, 0.7, "heads", structure="heads", after=depth)
    less = [name for name, kept in heads.kept.items() if len(kept) < heads.widths[name]]
    assert len(less) == 1, "two of four heads went with the branch, a third one is cut"
    plan = swdc.plan(program, 0.6, after=heads)
    assert set(plan.kept[less[0]]) <= set(heads.kept[less[0]])
    assert plan.removed_channels > heads.removed_channels
    assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)).exact


@pytest.mark.parametrize("options", [
    {}, {"scope": "group"}, {"scope": "isomorphic"}, {"even": True}, {"round_to": 2}, {"at_most": 0.75},
    {"sparsity": {"*": 0.5}}, {"sparsity": {"*": 0.5}, "scope": "group"},
    {"budget": "parameters", "scope": "group"}, {"criterion": "random"},
])  # fmt: skip
def test_an_earlier_cut_of_channels_stays_cut(options: dict[str, Any]) -> None:
    program = transformer()
    first = swdc.plan(program, 0.25, criterion="random", seed=3)
    second = swdc.plan(program, **{"sparsity": 0.5, **options}, after=first)
    for name, kept in second.kept.items():
        assert set(kept) <= set(first.kept[name])
        assert kept
    assert second.removed_channels > first.removed_channels
    if "budget" not in options:
        total = sum(second.widths.values())
        assert second.removed_channels == pytest.approx(total / 2, abs=len(second.kept))
    assert swdc.verify(swdc.mask(program, second), swdc.slim(program, second)).exact


def test_branches_after_channels() -> None:
    program = transformer()
    width = swdc.plan(program, 0.3)
    plan = swdc.plan(program, 0.6, "parameters", given(scored(program)), structure="blocks", after=width)
    assert plan.kept == dict(width.kept)
    assert plan.branches
    slim = swdc.slim(program, plan)
    assert swdc.verify(swdc.mask(program, plan), slim).exact
    assert swdc.count(slim).parameters <= 0.4 * swdc.count(program).parameters
    more = depth_of(program, 0.75, after=plan)
    assert more.branches[: len(plan.branches)] == plan.branches
    assert len(more.branches) == 3


def test_free_sums_may_lose_whole_groups_after_a_branch() -> None:
    program = images().under("free")
    depth = depth_of(program, 0.5)
    plan = swdc.plan(images(), 0.5, "parameters", after=depth)
    assert plan.policy == "free"
    assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)).exact
    emptied = {name: () if name == next(iter(plan.kept)) else kept for name, kept in depth.kept.items()}
    nothing = Plan(emptied, depth.widths, depth.program_hash, depth.settings)
    assert swdc.plan(program, 0.5, after=nothing).kept[next(iter(plan.kept))] == ()


def test_a_plan_of_another_program_is_refused() -> None:
    other = swdc.trace(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).double(), torch.randn(2, 4).double())
    with pytest.raises(PlanError, match="expected a plan of this program"):
        swdc.plan(transformer(), 0.5, after=swdc.plan(other, 0.5))
    with pytest.raises(PlanError, match="expected a budget that can be met, but at most"):
        swdc.plan(program := transformer(), 0.99, "parameters", after=depth_of(program))


def test_an_earlier_plan_is_part_of_the_order_not_of_the_scores() -> None:
    """Removed channels never come back, whatever they score."""
    program = transformer()
    first = swdc.plan(program, {"0.up": 0.5}, criterion=lambda p, groups: [-np.arange(g.width) for g in groups])
    second = swdc.plan(
        program, {"0.up": 0.75}, criterion=lambda p, groups: [np.arange(g.width) for g in groups], after=first
    )
    assert first.kept["0.up"] == (0, 1, 2, 3, 4, 5)
    assert second.kept["0.up"] == (3, 4, 5)
