"""Groups, members, frozen channels, couplings and plans are equal if they hold the same, and can be hashed."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import swdc
from swdc.ir.plan import Plan
from swdc.ir.program import Program


@pytest.fixture(name="programs", scope="module")
def _programs() -> tuple[Program, Program]:
    def made() -> Program:
        layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
        return swdc.trace(layers, torch.randn(2, 3, 4, 4))

    return made(), made()


def test_what_holds_the_same_is_equal_and_has_one_hash(programs: tuple[Program, Program]) -> None:
    one, other = programs
    assert one.groups
    assert one.frozen
    for mine, others in ((one.groups, other.groups), (one.frozen, other.frozen)):
        assert mine == others
        assert {*mine} == {*others}
        assert len({*mine, *others}) == len(mine)
    member = one.groups[0].members[0]
    assert {member: 1}[other.groups[0].members[0]] == 1


def test_another_number_is_another_thing(programs: tuple[Program, Program]) -> None:
    group = programs[0].groups[0]
    member = copy.deepcopy(group.members[0])
    assert member == group.members[0]
    member.indices[0, 0] += 1
    changed = replace(group, members=(member, *group.members[1:]))
    assert member != group.members[0]
    assert changed != group
    assert len({changed, group}) == 2
    assert replace(group, name="other") != group
    assert member.indices.reshape(1, -1).shape != member.indices.shape
    assert replace(member, indices=member.indices.reshape(1, -1)) != member
    assert group != "group"
    assert group.members[0] != programs[0].frozen[0]


def test_plans_are_keys_and_survive_json(programs: tuple[Program, Program]) -> None:
    plan, same = (swdc.plan(program, 0.3) for program in programs[:1] * 2)
    assert plan == same
    assert {plan: "a"}[same] == "a"
    loaded = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert loaded == plan
    assert hash(loaded) == hash(plan)
    assert swdc.plan(programs[0], 0.6) != plan
    assert replace(plan, settings={}) != plan
