"""What a node does to memory: overwriting, sharing, and depending on how a value lies in it."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from swdc.ops.in_place import Memory, depends_on_memory, is_view, overwrites, without_side_effects

aten = torch.ops.aten


def node_of(target: object) -> fx.Node:
    graph = fx.Graph()
    return graph.call_function(target, (graph.placeholder("x"),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "writes", "views", "depends"),
    [
        (aten.relu.default, False, False, False),
        (aten.relu_.default, True, False, True),
        (aten.reshape.default, False, True, False),
        (aten.view.default, False, True, True),
        (aten.view.dtype, False, True, True),
        (aten.as_strided.default, False, True, True),
        (aten.view_as_complex.default, False, True, True),
        (aten.view_as_real.default, False, True, True),
        (aten.dropout.default, False, True, False),
        (aten.special_bessel_j0.default, False, False, False),
        (torch.ops.prims.sin.default, False, False, True),  # not of ATen
    ],
)
def test_memory(target: object, writes: bool, views: bool, depends: bool) -> None:
    node = node_of(target)
    assert (overwrites(node), is_view(node), depends_on_memory(node)) == (writes, views, depends)


def test_a_module_does_not_depend_on_memory() -> None:
    graph = fx.Graph()
    assert not depends_on_memory(graph.call_module("a", (graph.placeholder("x"),)))


def test_what_an_in_place_operator_computes() -> None:
    assert without_side_effects(aten.relu_.default) is aten.relu.default
    assert without_side_effects(aten.add_.Tensor) is aten.add.Tensor
    assert without_side_effects(aten.relu.default) is None


def test_values_that_share_what_is_overwritten() -> None:
    graph = fx.Graph()
    x = graph.call_function(aten.relu.default, (graph.placeholder("x"),))
    view = graph.call_function(aten.alias.default, (x,))
    written = graph.call_function(aten.mul_.Tensor, (x, 2))
    graph.output((view, written))
    assert Memory(graph).read_later(written) == [view]
