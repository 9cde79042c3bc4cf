"""Numbers that a program computes from sizes: the functions that its graph calls for them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

NUMBERS: Mapping[str, Callable[..., Any]] = {
    "sum": operator.add, "difference": operator.sub, "product": operator.mul, "negative": operator.neg,
    "quotient": operator.truediv, "whole quotient": operator.floordiv, "power": operator.pow,
    "larger": torch.sym_max, "smaller": torch.sym_min, "real": torch.sym_float, "root": torch.sym_sqrt,
}  # fmt: skip
"""What a number is of others, and the function that computes it; of plain numbers, it returns what Python would."""


def number_of(graph: fx.Graph, name: str, *parts: Any) -> fx.Node:
    """Return a new node that computes a number from others, of which at least one is a node."""
    return graph.call_function(NUMBERS[name], parts)
