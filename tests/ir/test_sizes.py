"""Symbolic sizes: numbers that stand in for symbols."""

from __future__ import annotations

import math

import sympy

from swdc.ir.sizes import evaluate, stand_ins


def test_stand_ins_leave_tensors_whose_elements_can_be_counted() -> None:
    batch, height, width = sympy.symbols("batch height width", integer=True)
    scores = (batch, 8, height * width, height * width)
    for shapes in ((scores,), ((batch, 3), [scores, (height,)]), ()):
        found = stand_ins(["batch", "height", "width"], shapes)
        assert len(set(found.values())) == 3
        assert all(sympy.isprime(value) for value in found.values())
        assert not shapes or math.prod(evaluate(scores, found)) < 2**63
