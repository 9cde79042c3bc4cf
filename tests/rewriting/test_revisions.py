"""What ``swdc.revise`` takes: tensors, arguments and replaced calls that fit the program."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PassError
from swdc.ir.call import Ref
from tests.support import assert_equal, image, traced

X = image(2, 3)


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


PROGRAM = traced(layers(), X)
TENSORS = PROGRAM.tensors
_, FIRST, NORM, RELU, LAST, OUTPUT = PROGRAM.graph.nodes
STRANGER = [*traced(layers(), X).graph.nodes][1]

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "some tensors": ({"tensors": {"0.weight": TENSORS["0.weight"]}}, "expected a tensor for 0.bias, which _0 reads"),
    "more tensors": ({"tensors": {**TENSORS, "nope": torch.ones(1)}}, "names of the program's tensors, got 'nope'"),
    "another shape": (
        {"tensors": {**TENSORS, "0.weight": torch.ones(3, 3)}},
        r"expected 0.weight of shape \(4, 3\), as it is in the program, got \(3, 3\)",
    ),
    "no tensors": ({"tensors": {**TENSORS, "0.weight": None}}, "expected tensors as a mapping"),
    "no arguments": ({"arguments": {RELU.name: 5}}, r"arguments as a mapping of \(text, a mapping of \(text, anything"),
    "an unknown call": ({"arguments": {"relu": {}}}, "by the names of calls, got the name 'relu'; take node.name"),
    "an unknown argument": ({"arguments": {RELU.name: {"x": 1}}}, "arguments of relu_default among self, got 'x'"),
    "no operator": (
        {"arguments": {RELU.name: {"operator": "silu"}}},
        "operator of relu_default by the name of .* 'silu'",
    ),
    "an unknown operator": ({"arguments": {RELU.name: {"operator": "aten.b.c"}}}, "which fails with AttributeError"),
    "an unknown tensor": ({"arguments": {LAST.name: {"bias": Ref("b")}}}, "a tensor for b, which _3 reads, got none"),
    "no weight": ({"arguments": {LAST.name: {"weight": None}}}, "of which a program can be made, which fails with"),
    "a later value": ({"arguments": {RELU.name: {"self": LAST}}}, "relu_default that stand before it, got _3"),
    "another program": ({"arguments": {RELU.name: {"self": STRANGER}}}, "relu_default that stand before it, got _0"),
    "numbers for nodes": ({"instead": {1: 2}}, "expected instead as a mapping"),
    "a later node": (
        {"instead": {RELU: LAST}},
        "calls of the program to earlier nodes of it, got relu_default with _3",
    ),
    "a strange node": ({"instead": {RELU: STRANGER}}, "earlier nodes of it, got relu_default with _0; take nodes"),
    "no call": (
        {"instead": {OUTPUT: RELU}},
        "calls of the program to earlier nodes of it, got output with relu_defaul",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_the_program_is_refused(name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(PassError, match=message):
        swdc.revise(PROGRAM, **given)


def test_tensors_that_only_replaced_calls_read_may_be_left_out() -> None:
    held = {name: tensor for name, tensor in TENSORS.items() if not name.startswith("1.")}
    revised = swdc.revise(PROGRAM, held, {RELU.name: {"operator": "aten.neg.default"}}, {NORM: FIRST})
    assert set(revised.tensors) == set(held)
    leaves = revised.leaves
    assert_equal(revised(X), leaves["3"](-leaves["0"](X)))
