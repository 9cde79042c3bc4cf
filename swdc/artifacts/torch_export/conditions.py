"""What a program asks of the sizes of its inputs, written into its graph, where torch.export reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
import torch
from torch import fx
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from swdc.artifacts.plain_calls import is_given_a_size, say_plainly
from swdc.ir.graph import SHAPE, copy_graph
from swdc.ir.program import Program
from swdc.ops.creation import size_of


def asking(program: Program) -> Program:
    """Return a copy in evaluation that asks of its inputs, in its own code, what a call of the program asks.

    Sizes with one name are equal, and the conditions of the program hold. Otherwise torch.export would find only what
    the operators ask, and not what the model's code has decided by a size.
    """
    graph = copy_graph(program.graph)
    for node in filter(is_given_a_size, list(graph.nodes)):
        say_plainly(node)
    inputs = graph.find_nodes(op="placeholder")
    tracer = fx.proxy.GraphAppendingTracer(graph)
    with graph.inserting_before(inputs[-1].next if inputs else next(iter(graph.nodes))):
        found = [
            (size, fx.Proxy(size_of(node, dim), tracer))
            for node in inputs
            for dim, size in enumerate(node.meta.get(SHAPE) or ())
            if not isinstance(size, int)
        ]
        sizes = {size: here for size, here in reversed(found) if size.is_Symbol}
        for size, here in found:
            if size.free_symbols <= sizes.keys() and sizes.get(size) is not here:
                _ask(graph, here == _value(size, sizes))
        for condition in program.facts.conditions:
            size = condition.size
            if not isinstance(size, int) and size.free_symbols <= sizes.keys():
                _ask(graph, condition.met_by(_value(size, sizes)))
    return program.rebuilt(graph=graph).clone().eval()


def _ask(graph: fx.Graph, held: fx.Proxy) -> None:
    graph.call_function(torch._check, (held.node,))


def _value(size: sympy.Expr, sizes: Mapping[sympy.Expr, fx.Proxy]) -> Any:
    """Return a size, computed in the graph."""
    return sympy_interp(PythonReferenceAnalysis, dict(sizes), size)
