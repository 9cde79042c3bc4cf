"""Units of channels, for all groups or for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.sparsity.planning.width_multiples import units_of
from tests.support import Function, conv, image, traced


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return traced(nn.Sequential(conv(3, 32), nn.ReLU(), conv(32, 24), nn.ReLU(), conv(24, 40), nn.ReLU(), conv(40, 2)))


def test_one_number_is_for_all_groups(program: Program) -> None:
    assert units_of(program.groups, 8).tolist() == [8, 8, 8]


@pytest.mark.parametrize(
    ("round_to", "units"),
    [
        ({"2": 4}, [1, 4, 1]),
        ({"*": 8}, [8, 8, 8]),
        ({"*": 8, "2": 4}, [8, 4, 8]),
        ({"[24]": 16, "*": 2}, [2, 16, 16]),
        ({}, [1, 1, 1]),
    ],
    ids=str,
)
def test_groups_by_name_or_pattern_the_name_first(program: Program, round_to: Any, units: list[int]) -> None:
    assert [group.name for group in program.groups] == ["0", "2", "4"]
    assert units_of(program.groups, round_to).tolist() == units


def test_each_group_keeps_multiples_of_its_own_unit(program: Program) -> None:
    plan = swdc.plan(program, 0.6, budget="macs", criterion="uniform", round_to={"0": 16, "2": 3})
    assert len(plan.kept["0"]) % 16 == 0
    assert len(plan.kept["2"]) % 3 == 0 < plan.removed_channels
    assert plan.settings["round_to"] == {"0": 16, "2": 3}


@pytest.mark.parametrize("number", [0, -8, 2.5, True, "8"])
def test_anything_but_a_positive_whole_number_is_refused(program: Program, number: Any) -> None:
    for round_to in (number, {"2": number}):
        with pytest.raises(PlanError, match=r"expected round_to as a whole number .*, got"):
            swdc.plan(program, 0.5, round_to=round_to)


def test_a_pattern_that_names_no_group_is_refused(program: Program) -> None:
    with pytest.raises(PlanError, match=r"'layer9\.\*' names none; groups are called 0, 2, 4"):
        units_of(program.groups, {"*": 8, "layer9.*": 8})


def test_the_size_of_a_head_counts_towards_its_unit() -> None:
    def attend(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (6, size)).transpose(1, 2) for layer, size in zip(m.qkv, (4, 4, 4), strict=True)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        result: torch.Tensor = m.out(mixed.transpose(1, 2).flatten(2))
        return result

    model = Function(attend, qkv=nn.ModuleList(nn.Linear(5, 24) for _ in range(3)), out=nn.Linear(24, 3))
    program = traced(model, image(2, 7, 5))
    assert [group.width for group in program.groups] == [6]
    assert [units_of(program.groups, number).tolist() for number in (1, 2, 4, 8, 12)] == [[1], [1], [1], [2], [3]]
    slim = swdc.slim(program, swdc.plan(program, 0.4, budget="macs", round_to=8))
    assert slim.get_submodule("out").in_features % 8 == 0
