"""A wrong rule of a user's is named with its operator; rules that are right pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.errors import RuleError
from swdc.ir.call import Call
from swdc.ops.base import OPERATORS, Operator

NAME = "swdc_rules.gained.default"


@torch.library.custom_op("swdc_rules::gained", mutates_args=())
def gained(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return x * gain.view(-1, 1, 1)


@gained.register_fake
def _(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Gained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.gain = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), nn.Parameter(torch.rand(8) + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(gained(self.first(x), self.gain))
        return found


class Right(Operator):
    names = (NAME,)

    def couple(self, call: Call, channels: Channels) -> None:
        labels = channels.labels(call["x"])
        channels.bind(call["gain"], 0, labels[1], "writes", call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        channels.set_dead(call, [0.0] * 4)


class Raises(Right):
    def couple(self, call: Call, channels: Channels) -> None:
        channels.set(call, channels.labels(call["input"]))


class TooFewDimensions(Right):
    def couple(self, call: Call, channels: Channels) -> None:
        channels.set(call, channels.labels(call["x"])[:2])


class TooFewLabels(Right):
    def couple(self, call: Call, channels: Channels) -> None:
        labels = channels.labels(call["x"])
        assert labels[1] is not None
        channels.set(call, [None, labels[1][:5], None, None])


class NoLabels(Right):
    def couple(self, call: Call, channels: Channels) -> None:
        channels.set(call, [None, 3, None, None])


class TooFewDead(Right):
    def fold(self, call: Call, channels: Channels) -> None:
        channels.set_dead(call, [0.0])


class UnknownArgument(Right):
    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        return {"nothing": 3}


class NoMapping(Right):
    def resize(self, call: Call, kept: Kept) -> Any:
        return 5


class ForgetsTheGain(Right):
    def couple(self, call: Call, channels: Channels) -> None:
        channels.set(call, channels.labels(call["x"]))


class ForgetsTheResult(Right):
    def couple(self, call: Call, channels: Channels) -> None:
        channels.bind(call["gain"], 0, channels.labels(call["x"])[1], "writes", call)

    def fold(self, call: Call, channels: Channels) -> None:
        pass


WRONG = {
    Raises: "couple does not fit the call gained_default.*KeyError: 'input'",
    TooFewDimensions: "couple .*it labels 2 dimensions of a result that has 4",
    TooFewLabels: "couple .*it gives dimension 1, of size 8, 5 labels",
    NoLabels: "couple .*it labels dimension 1 with int and no array",
    TooFewDead: "fold .*it gives 1 dead values for a result of 4 dimensions",
    UnknownArgument: "resize .*it returns 'nothing', but the arguments are x, gain",
    NoMapping: "resize .*it returns int and no mapping",
    ForgetsTheGain: "couple or resize .*must match the size of tensor b",
    ForgetsTheResult: r"couple or resize .*it returns \(2, .*, where the rules say \(2, 8, 5, 5\)",
}


@pytest.fixture(autouse=True)
def _own_rules() -> Iterator[None]:
    yield
    OPERATORS.operators.pop(NAME, None)
    OPERATORS.version += 1


@pytest.mark.parametrize("rule", WRONG, ids=lambda rule: rule.__name__)
def test_a_wrong_rule_is_named_with_its_operator_and_its_class(rule: type[Operator]) -> None:
    swdc.register(rule)
    program = swdc.trace(Gained(), torch.randn(2, 3, 5, 5))
    weights = {name: tensor.clone() for name, tensor in program.tensors.items()}
    with pytest.raises(RuleError, match=f"(?s)describes {NAME}, got .*{rule.__name__}, whose {WRONG[rule]}"):
        swdc.slim(program, swdc.plan(program, 0.5))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in program.tensors.items())


def test_the_right_rule_is_exact_and_a_rule_that_turns_channels_around_is_not() -> None:
    class Turned(Right):
        def couple(self, call: Call, channels: Channels) -> None:
            labels = channels.labels(call["x"])
            assert labels[1] is not None
            channels.bind(call["gain"], 0, labels[1], "writes", call)
            channels.set(call, [None, labels[1][::-1], None, None])

    for rule, exact in ((Right, True), (Turned, False)):
        swdc.register(rule)
        program = swdc.trace(Gained(), torch.randn(2, 3, 5, 5))
        plan = swdc.plan(program, {"first": 0.4})
        certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
        assert certificate.exact == exact
    assert certificate.first_difference is not None
    assert NAME in certificate.first_difference


def test_an_operator_that_refuses_made_up_values_is_not_blamed() -> None:
    @torch.library.custom_op("swdc_rules::picky", mutates_args=())
    def picky(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        if not bool(x.any()):
            raise ValueError("expected something")
        return x * gain.view(-1, 1, 1)

    picky.register_fake(lambda x, gain: torch.empty_like(x))

    class Picky(Gained):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.last(picky(self.first(x), self.gain))
            return found

    class Rule(Right):
        names = ("swdc_rules.picky.default",)

    swdc.register(Rule)
    program = swdc.trace(Picky(), torch.randn(2, 3, 5, 5))
    slim = swdc.slim(program, swdc.plan(program, {"first": 0.5}))
    assert slim.tensors["gain"].shape == (4,)
    OPERATORS.operators.pop("swdc_rules.picky.default")
