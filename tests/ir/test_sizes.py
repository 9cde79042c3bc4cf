"""Symbolic sizes: numbers that stand in for symbols."""

from __future__ import annotations

import math

import sympy
from torch.utils._sympy.functions import Mod

from swdc.ir.conditions import Condition, steps
from swdc.ir.sizes import evaluate, stand_ins


def test_stand_ins_leave_tensors_whose_elements_can_be_counted() -> None:
    batch, height, width = sympy.symbols("batch height width", integer=True)
    scores = (batch, 8, height * width, height * width)
    for shapes in ((scores,), ((batch, 3), [scores, (height,)]), ()):
        found = stand_ins(["batch", "height", "width"], shapes)
        assert len(set(found.values())) == 3
        assert all(sympy.isprime(value) for value in found.values())
        assert not shapes or math.prod(evaluate(scores, found)) < 2**63


def test_stand_ins_are_multiples_where_sizes_have_to_be() -> None:
    batch, width = sympy.symbols("batch width", integer=True)
    asked = [Condition(Mod(width, n), "==", 0) for n in (4, 6)] + [Condition(Mod(batch, 2), "!=", 0)]
    assert steps(asked) == {"width": 12}
    found = stand_ins(["batch", "width"], (), steps(asked))
    assert sympy.isprime(found["batch"])
    assert sympy.isprime(found["width"] // 12)
    assert found["width"] % 12 == 0
