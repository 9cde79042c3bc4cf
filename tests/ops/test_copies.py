"""Copies and casts: channels pass, and what is asked for may be there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import Function, assert_slims, certified, conv, group_with, identity_of, image, reason_at, traced


def test_a_cast_does_not_couple_with_what_gives_the_type() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.relu(m.a(x)).type_as(m.d(x)) * m.d(x).sum(1, keepdim=True))

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), d=nn.Linear(5, 3), b=nn.Linear(8, 2)), image(3, 5))
    assert group_with(program, "a.weight[0]").width == 8
    assert group_with(program, "d.weight[0]").width == 3


GIVEN_BACK: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], bool]] = {
    "aten.detach.default": (lambda y: y.detach(), False),
    "aten.clone.default": (lambda y: y.clone(), True),
    "aten.to.dtype": (lambda y: y.to(torch.float64), False),
    "aten._to_copy.default": (lambda y: torch.ops.aten._to_copy(y), True),
    "aten.lift_fresh_copy.default": (lambda y: torch.ops.aten.lift_fresh_copy(y), True),
}


@pytest.mark.parametrize("name", GIVEN_BACK)
def test_what_gives_back_what_it_reads(name: str) -> None:
    function, copies = GIVEN_BACK[name]
    identity = identity_of(traced(Function(lambda m, x: m.d(function(m.c(x))), c=conv(3, 6), d=conv(6, 2))), name)
    assert identity is not None
    assert identity.copies is copies
    assert identity.source.target == "c"


OTHERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "aten.clone.default": lambda y: y.clone(memory_format=torch.channels_last),
    "aten.to.dtype": lambda y: y.to(torch.float32),
    "aten.conj_physical.default": lambda y: torch.conj_physical(y),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_type_or_layout_is_something_else(name: str) -> None:
    program = traced(Function(lambda m, x: OTHERS[name](m.c(x)), c=conv(3, 6)))
    assert identity_of(program, name) is None


def test_a_cast_of_a_program_on_another_device_computes_something() -> None:
    program = traced(Function(lambda m, x: m.c(x).to("cpu", torch.float64), c=conv(3, 6)))
    (name,) = (str(n.target) for n in program.graph.nodes if n.op == "call_function" and "aten.to" in str(n.target))
    assert identity_of(program, name) is not None
    assert identity_of(program.to("meta"), name) is None


CASTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], bool]] = {
    "fraction": (lambda y: (y + 2.7).to(torch.int8), True),
    "wraps below": (lambda y: (y.clamp(max=2) - 1).to(torch.uint8), False),
    "wraps above": (lambda y: (y * 0 + 300).to(torch.int8), False),
    "rounds": (lambda y: F.softplus(y).to(torch.bfloat16), True),
    "overflows": (lambda y: (y + 70000).to(torch.float16), False),
    "truth": (lambda y: (y - 0.5).to(torch.bool), True),
}


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_of_a_constant_is_known_if_the_type_holds_it(name: str) -> None:
    function, known = CASTS[name]

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(function(y).to(y.dtype) + y)

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5))
    if known:
        certified(program)
    else:
        assert "its dead value is not a constant" in reason_at(program, "a.weight", 0)
