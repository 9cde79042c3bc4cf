"""How calls of two programs differ."""

from __future__ import annotations

import torch
from torch import nn

import swdc
from swdc.ir.same_calls import different_calls
from tests.support import Function, image, traced


def test_programs_of_one_model_are_called_alike() -> None:
    program = traced(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), image(2, 3, 8, 8))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    assert different_calls(program, slim, modes=True) is None
    assert different_calls(program, slim.train()) is None
    assert different_calls(program, slim, modes=True) == "another training mode of a module"


def test_what_differs_is_named() -> None:
    layer = nn.Linear(4, 3)
    one = traced(Function(lambda m, x: {"a": m.one(x)}, one=layer), image(2, 4))
    renamed = traced(Function(lambda m, x: {"b": m.one(x)}, one=layer), image(2, 4))
    longer = traced(Function(lambda m, x: {"a": m.one(x)}, one=layer), image(2, 5, 4))
    odd = traced(Function(lambda m, x: {"a": m.one(x) * (1 if len(x) < 9 else 2)}, one=layer), image(2, 4))
    fixed = swdc.trace(Function(lambda m, x: {"a": m.one(x)}, one=layer), image(2, 4), dynamic=[])
    narrow = swdc.trace(Function(lambda m, x: {"a": m.one(x)}, one=layer).float(), torch.randn(2, 4))
    assert different_calls(one, renamed) == "another structure of results"
    assert different_calls(one, odd) == "other conditions on sizes"
    for other in (longer, fixed, narrow):
        assert different_calls(one, other) == "another type or size of an input"
