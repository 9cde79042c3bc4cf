"""Sizes other than the example's at which to try a program."""

from __future__ import annotations

import pytest

from swdc.ir.conditions import Condition
from swdc.ir.other_sizes import cheaper_sizes
from swdc.ir.sizes import parse

H, W = "height", "width"


@pytest.mark.parametrize(
    ("symbols", "conditions", "expected"),
    [
        ({"batch": 2, H: 224, W: 224}, (), {H: 56, W: 57}),
        ({"batch": 2, H: 8, W: 8}, (), {H: 6, W: 7}),
        ({"length": 20}, (), {"length": 15}),
        ({H: 224}, (Condition(parse("Mod(height, 32)"), "==", 0),), {H: 64}),
        ({H: 224, W: 224}, (Condition(parse("height - width"), "==", 0),), {H: 56, W: 56}),
        ({H: 224}, (Condition(parse("height"), ">=", 200),), {H: 200}),
        ({H: 224, W: 100}, (Condition(parse("height"), "==", 224),), {W: 26}),
        ({"batch": 2}, (), {}),
        ({"length": 2}, (), {}),
    ],
)
def test_cheaper_sizes(symbols: dict[str, int], conditions: tuple[Condition, ...], expected: dict[str, int]) -> None:
    assert cheaper_sizes(symbols, conditions, "batch") == expected


def test_sizes_that_grow() -> None:
    assert cheaper_sizes({"nodes": 34, "edges": 156}, (), None, {"nodes"}) == {"nodes": 35, "edges": 40}
