"""Plans as data: which plans a program accepts, and the way through JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.fitting import check_plan
from tests.support import conv, plan_of, traced

USES: dict[str, Callable[[Program, Plan], Any]] = {
    "mask": swdc.mask,
    "slim": swdc.slim,
    "check": lambda program, plan: check_plan(plan, program),
}


def small(width: int = 8) -> Program:
    return traced(nn.Sequential(conv(3, width), nn.ReLU(), conv(width, 6), nn.ReLU(), conv(6, 2)))


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_plan_of_another_program_is_refused(use: Callable[[Program, Plan], Any]) -> None:
    program, other = small(), small(width=10)
    plan = swdc.plan(other, 0.5)
    with pytest.raises(PlanError, match="expected a plan of this program") as caught:
        use(program, plan)
    assert program.hash()[:12] in str(caught.value)
    assert other.hash()[:12] in str(caught.value)


def test_a_slim_program_does_not_take_the_plan_again() -> None:
    program = small()
    plan = swdc.plan(program, 0.5)
    with pytest.raises(PlanError, match="expected a plan of this program"):
        swdc.slim(swdc.slim(program, plan), plan)


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_an_unknown_group_is_refused(use: Callable[[Program, Plan], Any]) -> None:
    program = small()
    plan = swdc.plan(program, 0.5)
    with pytest.raises(PlanError, match="expected groups of this program, got 'nowhere'"):
        use(program, replace(plan, kept={**plan.kept, "nowhere": (0,)}, widths={**plan.widths, "nowhere": 4}))


@pytest.mark.parametrize("kept", [(), (8,), (0, 100), (-1, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_channels_that_a_group_does_not_have_are_refused(
    use: Callable[[Program, Plan], Any], kept: tuple[int, ...]
) -> None:
    program = small()
    with pytest.raises(PlanError, match="expected between 1 and 8 distinct channels of group '0' to be kept"):
        use(program, plan_of(program, {"0": kept}))


def test_a_group_that_is_not_named_stays_whole() -> None:
    program = small()
    slim = swdc.slim(program, Plan({"0": (1, 4)}, {"0": 8}, program.hash()))
    assert [group.width for group in slim.groups] == [2, 6]


def test_through_json_and_back() -> None:
    program = small()
    plan = swdc.plan(program, 0.4, budget="parameters", ignore=("4",))
    back = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert back == plan
    assert back.to_dict() == plan.to_dict()
    check_plan(back, program)
    assert swdc.count(swdc.slim(program, back)) == swdc.count(swdc.slim(program, plan))


def test_settings_say_how_the_plan_was_made() -> None:
    plan = swdc.plan(
        small(),
        0.25,
        budget="operations",
        criterion="l1",
        scope="group",
        round_to=2,
        ignore="2",
    )
    assert plan.settings == {
        "sparsity": 0.25,
        "budget": "operations",
        "criterion": "l1",
        "scope": "group",
        "even": False,
        "at_most": 1.0,
        "frozen": "cut",
        "policy": "tied",
        "round_to": 2,
        "ignore": ["2"],
        "seed": 0,
    }


def test_a_printed_plan_has_the_width_of_each_group() -> None:
    program = small()
    plan = plan_of(program, {"0": (0, 3, 5), "2": (1,)})
    assert str(plan) == "keeps 4 of 14 channels\n  0: 3 of 8\n  2: 1 of 6"
    assert plan.removed_channels == 10


def test_channels_are_plain_whole_numbers_in_order() -> None:
    program = small()
    plan = plan_of(program, {"0": (0, 3, 5), "2": (1,)})
    for kept in ([5, 0, 3], np.array([0, 3, 5]), (np.int64(0), np.int64(3), np.int64(5))):
        given = replace(plan, kept={**plan.kept, "0": kept}, widths={"0": np.int64(8), "2": 6})
        assert given == plan
        assert given.sha256() == plan.sha256()


@pytest.mark.parametrize("kept", [3, "03", (0.0, 3.0), (True,), {0: 1}, [None], np.array([0.5])])
def test_channels_that_are_not_whole_numbers_are_refused(kept: object) -> None:
    plan = plan_of(small(), {"0": (0, 3, 5), "2": (1,)})
    with pytest.raises(PlanError, match=r"expected the channels kept in 0 as a sequence of \(a whole number\)"):
        replace(plan, kept={**plan.kept, "0": kept})  # type: ignore[dict-item]
    with pytest.raises(PlanError, match="expected a plan as"):
        Plan.from_dict({**plan.to_dict(), "kept": {"0": kept, "2": [1]}})


def test_a_plan_of_other_widths_is_refused() -> None:
    program = small()
    plan = plan_of(program, {"0": (0, 3, 5), "2": (1,)})
    with pytest.raises(PlanError, match=r"expected 8 as the width of group '0', got 7"):
        swdc.slim(program, replace(plan, widths={**plan.widths, "0": 7}))


@pytest.mark.parametrize("branches", [3, "layer1", [["layer1"]]])
def test_branches_are_names(branches: object) -> None:
    with pytest.raises(PlanError, match="expected branches in the settings as a list of names, got"):
        Plan({"a": (0,)}, {"a": 2}, "hash", {"branches": branches})


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), [np.int64(1)], {"budget": len}])
def test_settings_are_plain_data(value: object) -> None:
    with pytest.raises(PlanError, match="expected settings as plain data, which JSON can hold, got something else: "):
        Plan({"a": (0,)}, {"a": 2}, "hash", {"seed": value})
