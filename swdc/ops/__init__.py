"""Operators, one family to a file. Importing this package fills the table."""

from swdc.ops import (
    activation,
    convolution,
    elementwise,
    embedding,
    indexing,
    linear,
    movement,
    normalization,
    pooling,
    reduction,
    shape,
)
from swdc.ops.base import Cost, Leaf, Operator, call_of, leaf_of, lookup, operator_of, register, shapes_of

__all__ = [
    "Cost",
    "Leaf",
    "Operator",
    "activation",
    "call_of",
    "convolution",
    "elementwise",
    "embedding",
    "indexing",
    "leaf_of",
    "linear",
    "lookup",
    "movement",
    "normalization",
    "operator_of",
    "pooling",
    "reduction",
    "register",
    "shape",
    "shapes_of",
]
