"""Operators, one family to a file. Importing this package fills the table."""

from swdc.ops import (
    activation,
    attention,
    contraction,
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
    views,
)
from swdc.ops.base import Cost, Leaf, Operator, calls, leaf_of, lookup, register, shapes_of

__all__ = [
    "Cost",
    "Leaf",
    "Operator",
    "activation",
    "attention",
    "calls",
    "contraction",
    "convolution",
    "elementwise",
    "embedding",
    "indexing",
    "leaf_of",
    "linear",
    "lookup",
    "movement",
    "normalization",
    "pooling",
    "reduction",
    "register",
    "shape",
    "shapes_of",
    "views",
]
