"""Searches that find something: what ``torch.export`` then knows of their results, and what a program has to check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv, free_unbacked_symbols
from torch.utils import _pytree as pytree

from swdc.capture.way import CannotCapture
from swdc.errors import UnmetError
from swdc.ir.call import source_of
from swdc.ir.value_checks import STANDS
from swdc.ops.in_place import operator_of
from swdc.ops.permute_and_expand import squeezed
from swdc.ops.sorting import expect_any, expect_several

_OTHERS = "give others, or trace the model again with an example that finds {} there"


@contextmanager
def finding_something() -> Iterator[None]:
    """Let sizes that depend on values be at least one in what torch exports meanwhile."""
    constrain = ShapeEnv._constrain_range_for_size

    def at_least_one(env: Any, size: Any, min: int | None = None, max: int | None = None) -> None:  # noqa: A002
        constrain(env, size, min or 1, max)

    with patch.object(ShapeEnv, "_constrain_range_for_size", at_least_one):
        yield


def check_searches(graph: fx.Graph) -> None:
    """Let a graph fail where a search in it finds nothing.

    Raises ``CannotCapture`` if another size that depends on values was taken to be at least one.
    """
    seen = set[Any]()
    for node in list(graph.nodes):
        sizes = _sizes(node.meta.get("val"))
        new = {symbol for size in sizes for symbol in free_unbacked_symbols(size)} - seen
        seen |= new
        env: Any = sizes[0].node.shape_env if new else None
        if not any(env.var_to_range[symbol].lower >= 1 for symbol in new):
            continue
        conditions = operator_of(node.target).conditions(node.args)
        if not conditions:
            raise CannotCapture(f"a size depends on values at {source_of(node) or node.name}")
        for condition in conditions:
            line = source_of(node) or node.name
            text = f"{STANDS}{line} finds something, got inputs in which it finds nothing; {_OTHERS.format('nothing')}"
            expect_any(condition, node, text)


def check_squeezes(graph: fx.Graph) -> None:
    """Let a graph fail where a size that depends on values is one, if the code leaves out a dimension of one there."""
    for node in list(graph.nodes):
        value, dims = squeezed(node) or (node, ())
        for dim in dims:
            size = value.meta["val"].shape[dim]
            if isinstance(size, torch.SymInt) and free_unbacked_symbols(size):
                line = source_of(node) or node.name
                text = f"{STANDS}{line} finds several, got inputs in which it finds one; {_OTHERS.format('one')}"
                expect_several(value, dim, node, text)


def finds_nothing(result: Any) -> bool:
    """Whether the result of a run is the error of a program in which a search finds nothing."""
    return isinstance(result, UnmetError)


def _sizes(value: Any) -> list[torch.SymInt]:
    leaves = pytree.tree_leaves(value)
    sizes = [size for leaf in leaves for size in (leaf.shape if isinstance(leaf, torch.Tensor) else (leaf,))]
    return [size for size in sizes if isinstance(size, torch.SymInt)]
