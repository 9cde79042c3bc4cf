"""What nodes that compute with sizes stand for."""

from __future__ import annotations

import operator

import pytest
import sympy
import torch
from torch import fx

from swdc.ir.graph import SHAPE
from swdc.ops.creation import size_of
from swdc.ops.size_expressions import expression_of, product_of_dims, same_size

B, T = sympy.symbols("b t", integer=True, nonnegative=True)


def given() -> fx.Node:
    node = fx.Graph().placeholder("x")
    node.meta[SHAPE] = (B, T, 8)
    return node


def test_sizes_are_computed_as_expressions() -> None:
    x = given()
    batch, tokens = size_of(x, 0), size_of(x, 1)
    half = x.graph.call_function(operator.floordiv, (tokens, 2))
    known: dict[fx.Node, object] = {}
    assert expression_of(batch, known) == B
    assert expression_of(x.graph.call_function(operator.mul, (batch, half)), known).subs({B: 3, T: 9}) == 12
    assert expression_of(x.graph.call_function(operator.mod, (tokens, 4)), known).subs({T: 11}) == 3
    assert expression_of(x.graph.call_function(operator.sub, (1, half)), known).subs({T: 9}) == -3
    assert expression_of(x.graph.call_function(operator.neg, (half,)), known).subs({T: 9}) == -4


def test_what_is_no_size_has_no_expression() -> None:
    x = given()
    summed = x.graph.call_function(torch.ops.aten.sum.default, (x,))
    assert expression_of(summed, {}) is None
    assert expression_of(x.graph.call_function(operator.add, (summed, 1)), {}) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(B * (T - 1), B * T - B, True), (B * T, B + T, False), (B, T, False), (4, 4, True), (B, 4, False)],
)
def test_sizes_are_the_same_if_they_are_for_all_values(one, other, same) -> None:
    assert same_size(one, other) is same


def test_a_size_is_a_dimension_a_multiple_of_one_or_the_product_of_two() -> None:
    shapes = {"x": (B, T - 1, 8), "y": ((B, T), (2,))}
    assert product_of_dims(T - 1, shapes) == ((("x", 1),), 1)
    assert product_of_dims(3 * T - 3, shapes) == ((("x", 1),), 3)
    assert product_of_dims(B * T - B, shapes) == ((("x", 0), ("x", 1)), 1)
    assert product_of_dims(8, shapes) == ((("x", 2),), 1)
    assert product_of_dims(T, shapes) is None
    assert product_of_dims(3 * T - 1, shapes) is None
