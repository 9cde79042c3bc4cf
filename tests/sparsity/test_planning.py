"""Choosing channels: arguments, ignored layers, rounding, ties, budgets met to one channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.networks import resnet20
from swdc.sparsity.planning.budgets import Budget
from swdc.sparsity.planning.chooser import Chooser
from swdc.sparsity.planning.criteria import Scores, l2
from tests.support import Function, conv, group_with, image, random_plan, traced

WIDTHS = (8, 4, 16)


def stack(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for read, written in zip((3, *widths), widths, strict=False):
        layers += [conv(read, written), nn.BatchNorm2d(written), nn.ReLU()]
    return nn.Sequential(*layers, conv(widths[-1], 2))


@pytest.fixture(scope="module")
def program() -> Program:
    """Three groups of 8, 4 and 16 channels."""
    return traced(stack(*WIDTHS))


def kept_widths(plan: Plan) -> list[int]:
    return [len(kept) for kept in plan.kept.values()]


def equal(program: Program, groups: Any) -> Scores:
    return [np.ones(group.width) for group in groups]


@pytest.mark.parametrize("sparsity", [-1, -1e-9, 1, 1.5, float("nan"), float("inf")])
def test_a_sparsity_outside_of_zero_to_one_is_refused(program: Program, sparsity: float) -> None:
    with pytest.raises(
        PlanError, match=rf"expected (a sparsity .* at least 0 and below 1|sparsity as a number or .*), got {sparsity}"
    ):
        swdc.plan(program, sparsity)


@pytest.mark.parametrize("round_to", [0, -4, 2.5])
def test_rounding_to_anything_but_a_whole_number_is_refused(program: Program, round_to: Any) -> None:
    with pytest.raises(PlanError, match=f"expected round_to as a whole number .*, got {round_to}"):
        swdc.plan(program, 0.5, round_to=round_to)


@pytest.mark.parametrize("argument", ["budget", "criterion", "scope"])
def test_unknown_names_are_refused_with_the_known_ones(program: Program, argument: str) -> None:
    known = {"budget": "operations", "criterion": "gamma", "scope": "global"}[argument]
    arguments: dict[str, Any] = {argument: "flops"}
    with pytest.raises(PlanError, match=f"expected a {argument} of .*{known}.* got 'flops'"):
        swdc.plan(program, 0.5, **arguments)


def test_a_pattern_that_matches_nothing_is_refused(program: Program) -> None:
    with pytest.raises(PlanError, match=r"'head\.\*' matches none; names look like 0"):
        swdc.plan(program, 0.5, ignore=("0", "head.*"))


def test_ignoring_everything_leaves_nothing_to_choose_from(program: Program) -> None:
    with pytest.raises(PlanError, match="expected at least one group of removable channels"):
        swdc.plan(program, 0.5, ignore="*")


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8), nn.ReLU())
        self.body = nn.ModuleDict({"one": nn.Sequential(conv(8, 6), nn.ReLU()), "two": conv(6, 4)})
        self.head = conv(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.body["two"](self.body["one"](self.stem(x))).relu())
        return result


@pytest.mark.parametrize(
    ("ignore", "whole"),
    [
        (("body.one.0",), ["body.one.0"]),
        (("body.one.0.weight",), ["body.one.0"]),
        (["body.one"], ["body.one.0"]),
        (("body",), ["body.one.0", "body.two"]),
        ("body", ["body.one.0", "body.two"]),
        ("body.*", ["body.one.0", "body.two"]),
        (("stem", "body.t?o"), ["stem.0", "body.two"]),
        ("head", []),
    ],
    ids=str,
)
def test_ignored_layers_stay_whole(ignore: Any, whole: list[str]) -> None:
    program = traced(Nested())
    plan = swdc.plan(program, 0.5, scope="group", ignore=ignore)
    stayed = {name for name, kept in plan.kept.items() if len(kept) == plan.widths[name]}
    assert stayed == {group_with(program, f"{layer}.weight[0]").name for layer in whole}
    assert all(len(kept) == plan.widths[n] // 2 for n, kept in plan.kept.items() if n not in stayed)


@pytest.mark.parametrize("scope", ["global", "group"])
@pytest.mark.parametrize("budget", ["parameters", "operations", "macs"])
def test_a_budget_that_cannot_be_met_is_refused(program: Program, scope: str, budget: str) -> None:
    with pytest.raises(PlanError, match=f"at most 9.*% of the {budget} can be removed"):
        swdc.plan(program, 0.9999, budget=budget, scope=scope)


def test_the_most_channels_that_can_go(program: Program) -> None:
    assert kept_widths(swdc.plan(program, 25 / 28)) == [1, 1, 1]
    with pytest.raises(PlanError, match=r"at most 89\.3% of the channels can be removed"):
        swdc.plan(program, 25.5 / 28)
    with pytest.raises(PlanError, match="can be removed while every group keeps a channel"):
        swdc.plan(program, 25 / 28, ignore="0")


@pytest.mark.parametrize("scope", ["global", "group"])
@pytest.mark.parametrize("budget", ["channels", "parameters", "operations", "macs"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.85])
def test_no_group_is_ever_emptied(program: Program, scope: str, budget: str, sparsity: float) -> None:
    plan = swdc.plan(program, sparsity, budget=budget, scope=scope)
    assert min(kept_widths(plan)) >= 1
    assert all(list(kept) == sorted(set(kept)) for kept in plan.kept.values())
    assert (plan.removed_channels == 0) == (sparsity == 0)


def test_no_group_is_emptied_by_a_share_of_almost_one(program: Program) -> None:
    assert kept_widths(swdc.plan(program, 0.999, scope="group")) == [1, 1, 1]


def test_one_group_of_low_scores_keeps_its_best_channel(program: Program) -> None:
    def low(program: Program, groups: Any) -> Scores:
        return [np.arange(g.width) + (0.0 if g.width == 4 else 100.0) for g in groups]

    plan = swdc.plan(program, 3 / 28, criterion=low)
    assert list(plan.kept.values())[1] == (3,)
    assert kept_widths(swdc.plan(program, 4 / 28, criterion=low)) != [8, 0, 16]


@pytest.mark.parametrize("round_to", [4, 8])
@pytest.mark.parametrize("scope", ["global", "group"])
def test_numbers_of_kept_channels_are_multiples_of_round_to(round_to: int, scope: str) -> None:
    program = traced(stack(16, 12, 6))
    plan = swdc.plan(program, 0.4, budget="operations", scope=scope, round_to=round_to)
    for number, width in zip(kept_widths(plan), (16, 12, 6), strict=True):
        assert number % round_to == 0 or number == width
    assert plan.removed_channels > 0
    full = swdc.count(program).operations
    assert swdc.count(swdc.slim(program, plan)).operations <= 0.6 * full


def networks() -> dict[str, Program]:
    return {
        "stack": traced(stack(32, 24, 40, 6)),
        "residual": traced(Residual(32, 24)),
        "resnet": traced(resnet20(width=16), image(1, 3, 16, 16)),
        "dense": traced(nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 3)),
                        image(2, 5)),
    }  # fmt: skip


class Residual(nn.Module):
    """A sum that couples two convolutions, with a narrower one between, and a depthwise one at the end."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = conv(3, width), conv(width, inner), conv(inner, width)
        self.depthwise, self.head = conv(width, width, groups=width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        result: torch.Tensor = self.head(torch.relu(self.depthwise(x)).mean((2, 3)))
        return result


@pytest.fixture(scope="module")
def several() -> dict[str, Program]:
    return networks()


@pytest.mark.parametrize("name", ["stack", "residual", "resnet", "dense"])
@pytest.mark.parametrize("scope", ["global", "group"])
@pytest.mark.parametrize("budget", ["channels", "parameters", "operations", "macs"])
@pytest.mark.parametrize(("round_to", "sparsity"), [(4, 0.3), (4, 0.6), (8, 0.4), (16, 0.25)])
def test_a_rounded_budget_is_met_from_below_as_near_as_units_allow(
    several: dict[str, Program], name: str, scope: str, budget: str, round_to: int, sparsity: float
) -> None:
    program = several[name]
    costs = Budget(program, budget)
    try:
        plan = swdc.plan(program, sparsity, budget=budget, scope=scope, round_to=round_to)
    except PlanError:
        least = np.array([min(g.width, round_to) for g in program.groups])
        assert costs.cost(least) > (1 - sparsity) * costs.full
        return
    widths = np.array(kept_widths(plan))
    full = np.array([group.width for group in program.groups])
    target = (1 - sparsity) * costs.full * (1 + 1e-9)
    assert costs.cost(widths) <= target
    assert ((widths % round_to == 0) | (widths == full)).all()
    for group in np.flatnonzero(widths < full):
        wider = widths.copy()
        together = full == full[group] if scope == "group" else group
        wider[together] = min(widths[group] + round_to, full[group])
        assert costs.cost(wider) > target, f"{program.groups[group].name} could have kept {round_to} more"


def test_the_budget_in_multiply_adds_is_what_counting_says(several: dict[str, Program]) -> None:
    for program in several.values():
        plan = swdc.plan(program, 0.5, budget="macs", round_to=4)
        macs = swdc.count(swdc.slim(program, plan)).macs
        assert Budget(program, "macs").cost(np.array(kept_widths(plan))) == macs
        assert 0.3 * swdc.count(program).macs < macs <= 0.5 * swdc.count(program).macs


def test_units_that_fit_come_back_where_scores_are_highest() -> None:
    def scores(program: Program, groups: Any) -> Scores:
        return [np.linspace(1, 2, g.width) + (0.5 if g.width == 24 else 0.0) for g in groups]

    program = traced(stack(32, 24))
    # 23 of 56 channels may stay: whole units leave 8 + 8, and one of 8 more fails by a channel; at 24 it fits.
    assert kept_widths(swdc.plan(program, 33 / 56, criterion=scores, round_to=8)) == [8, 8]
    assert kept_widths(swdc.plan(program, 32 / 56, criterion=scores, round_to=8)) == [8, 16]


def test_a_group_narrower_than_the_unit_stays_whole() -> None:
    program = traced(stack(16, 12, 6))
    assert kept_widths(swdc.plan(program, 0.3, scope="group", round_to=8)) == [8, 8, 6]
    with pytest.raises(PlanError, match=r"at most 35\.3% of the channels can be removed .* lower round_to"):
        swdc.plan(program, 0.45, scope="group", round_to=8)


def test_ties_are_spread_evenly_over_the_groups(program: Program) -> None:
    for removed, expected in ((7, [6, 3, 12]), (14, [4, 2, 8]), (21, [2, 1, 4])):
        assert kept_widths(swdc.plan(program, removed / 28, criterion=equal)) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.5, [4, 2, 8]), (0.25, [6, 3, 12]), (0.75, [2, 1, 4])])
def test_a_share_of_each_group(program: Program, share: float, expected: list[int]) -> None:
    assert kept_widths(swdc.plan(program, share, scope="group")) == expected


def test_a_share_of_each_group_in_spite_of_rounding_errors() -> None:
    program = traced(stack(10, 10))
    for tenths in range(10):
        assert kept_widths(swdc.plan(program, tenths / 10, scope="group")) == [10 - tenths] * 2
        assert swdc.plan(program, tenths / 10).removed_channels == 2 * tenths


def test_the_lowest_scores_go(program: Program) -> None:
    scores = l2(program, program.groups)
    plan = swdc.plan(program, 0.5)
    kept, removed = [], []
    for values, group in zip(scores, program.groups, strict=True):
        assert values is not None
        chosen = list(plan.kept[group.name])
        kept += values[chosen].tolist()
        removed += np.delete(values, chosen).tolist()
    assert len(removed) == 14
    assert max(removed) < min(kept)


@pytest.mark.parametrize("budget", ["channels", "parameters", "bytes", "operations", "macs"])
@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.55, 0.8])
def test_a_global_budget_is_met_to_one_channel(program: Program, budget: str, sparsity: float) -> None:
    plan = swdc.plan(program, sparsity, budget=budget)
    target = (1 - sparsity) * cost(program, swdc.plan(program, 0), budget) * (1 + 1e-9)
    assert cost(program, plan, budget) <= target
    assert cost(program, with_the_last_one_back(program, plan), budget) > target


def cost(program: Program, plan: Plan, budget: str) -> int:
    """Return the real cost of the slim program of a plan."""
    if budget == "channels":
        return sum(kept_widths(plan))
    if budget == "bytes":
        return sum(tensor.nbytes for tensor in swdc.slim(program, plan).state_dict().values())
    return int(getattr(swdc.count(swdc.slim(program, plan)), budget))


def with_the_last_one_back(program: Program, plan: Plan) -> Plan:
    """Return a plan that keeps the removed channel with the highest score, too."""
    found = []
    for group, values in zip(program.groups, l2(program, program.groups), strict=True):
        assert values is not None
        removed = np.setdiff1d(np.arange(group.width), plan.kept[group.name])
        found += [(values[channel], group.name, int(channel)) for channel in removed]
    _, name, channel = max(found)
    kept = {**plan.kept, name: tuple(sorted((*plan.kept[name], channel)))}
    return Plan(kept, plan.widths, plan.program_hash)


@pytest.mark.parametrize("budget", ["parameters", "operations", "macs"])
@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.55, 0.8])
def test_one_share_for_all_groups_is_the_smallest_that_meets_the_budget(
    program: Program, budget: str, sparsity: float
) -> None:
    plan = swdc.plan(program, sparsity, budget=budget, scope="group")
    target = (1 - sparsity) * cost(program, swdc.plan(program, 0), budget)
    assert cost(program, plan, budget) <= target
    gone = [width - number for width, number in zip(WIDTHS, kept_widths(plan), strict=True)]
    sixteenths = max(gone[2], 2 * gone[0], 4 * gone[1])
    assert gone == [sixteenths // 2, sixteenths // 4, sixteenths]
    assert cost(program, swdc.plan(program, (sixteenths - 1) / 16, scope="group"), budget) > target


def test_ignored_layers_stay_and_the_rest_meets_the_budget(program: Program) -> None:
    plan = swdc.plan(program, 0.3, budget="parameters", ignore="3")
    assert len(plan.kept[group_with(program, "3.weight[0]").name]) == 4
    assert swdc.count(swdc.slim(program, plan)).parameters <= 0.7 * swdc.count(program).parameters


def test_the_same_call_gives_the_same_plan(program: Program) -> None:
    for budget in ("channels", "parameters", "operations"):
        assert swdc.plan(program, 0.37, budget=budget) == swdc.plan(program, 0.37, budget=budget)
    assert swdc.plan(program, 0.5, criterion=equal) == swdc.plan(program.clone(), 0.5, criterion=equal)


@pytest.mark.parametrize("training", [False, True])
def test_a_plan_does_not_change_the_program(training: bool) -> None:
    program = traced(stack(*WIDTHS)).train(training)
    program.get_submodule("1").eval()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    modes = {path: module.training for path, module in program.named_modules()}
    graph, named = program.hash(), dict(program.named_parameters())
    plan = swdc.plan(program, 0.5, budget="operations", criterion="gamma")
    swdc.plan(program, 0.5, scope="group")
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    swdc.count(program)
    after = program.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(named[name] is p for name, p in program.named_parameters())
    assert all(p.grad is None and p.requires_grad for p in program.parameters())
    assert {path: module.training for path, module in program.named_modules()} == modes
    assert program.hash() == graph
    assert program.facts.origin is None


def test_a_network_without_groups() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 4)), image(2, 5))
    with pytest.raises(
        PlanError,
        match=r"expected at least one group of removable channels; program\.explain",
    ):
        swdc.plan(program, 0.5)


def test_groups_without_scores_are_never_chosen(program: Program) -> None:
    scores: Scores = [np.arange(8.0), None, np.arange(16.0)]
    chooser = Chooser(program.groups, scores)
    assert chooser.steps == 7 + 15
    assert chooser.prefix(22).tolist() == [1, 4, 1]
    assert chooser.shares(0.99).tolist() == [1, 4, 1]


def test_a_group_of_a_single_channel_stays() -> None:
    model = Function(
        lambda m, x: m.b(torch.relu(m.a(x))),
        a=conv(3, 1),
        b=nn.Sequential(conv(1, 8), conv(8, 2)),
    )
    program = traced(model)
    plan = swdc.plan(program, 0.5, budget="parameters")
    assert all(len(kept) == 1 for name, kept in plan.kept.items() if plan.widths[name] == 1)
    assert swdc.count(swdc.slim(program, plan)).parameters <= 0.5 * swdc.count(program).parameters
    swdc.slim(program, random_plan(program))


def test_weights_under_other_names_are_refused() -> None:
    program = traced(stack(*WIDTHS))
    weights = {f"module.{name}": tensor for name, tensor in program.tensors.items()}
    with pytest.raises(PlanError, match=r"weights under the names of this program, such as 0\..* such as module\.0\."):
        swdc.plan(program, 0.5, weights=weights)


def test_a_criterion_that_fails_is_named() -> None:
    program = traced(stack(*WIDTHS))
    with pytest.raises(PlanError, match=r"expected a criterion .*, got 'len', which fails with TypeError"):
        swdc.plan(program, 0.5, criterion=len)  # type: ignore[arg-type]


def test_bytes_are_those_of_what_is_saved_in_its_own_type() -> None:
    def both(m: Any, x: torch.Tensor) -> torch.Tensor:
        halved = m.other(torch.sigmoid(m.one(x)).half()).float()
        return m.norm(halved) * m.table  # type: ignore[no-any-return]

    one, other = nn.Linear(4, 6), nn.Linear(6, 8, bias=False).half()
    model = Function(both, one=one, other=other, norm=nn.BatchNorm1d(8), table=nn.Parameter(torch.rand(8)))
    program = swdc.trace(model.eval(), torch.randn(2, 4), check=False)
    found = Budget(program, "bytes")
    assert found.full == sum(tensor.nbytes for tensor in program.state_dict().values())
    plan = swdc.plan(program, 0.3, "bytes")
    slim = swdc.slim(program, plan)
    assert slim.get_submodule("other").bias is not None, "a sigmoid leaves a constant"
    assert found.cost(np.array(kept_widths(plan))) == sum(tensor.nbytes for tensor in slim.state_dict().values())
