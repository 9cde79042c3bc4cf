"""Inlining: splices in the separate graphs that export makes of code under ``torch.no_grad`` or ``torch.autocast``."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import fx

from swdc.capture.captured_graph import STILL, check_autocast
from swdc.errors import TraceError
from swdc.ops.items import is_item

_GRADIENT = "wrap_with_set_grad_enabled"
_AUTOCAST = "wrap_with_autocast"
_OPTIONS = {_GRADIENT: 1, _AUTOCAST: 4}
"""How many options each wrapper takes, before the graph that it runs and the inputs of that graph."""
_EDITS = {
    "cond": "decide with torch.where, or outside the model",
    "while_loop": "unroll the loop with a fixed number of steps",
}


@dataclass(frozen=True)
class Inlined:
    """A graph without wrappers, and the names of the placeholders that it reads with gradients switched off."""

    graph: fx.Graph
    without_gradients: tuple[str, ...]


def inlined(root: fx.GraphModule) -> Inlined:
    """Return the graph of a module with all wrapped graphs spliced in.

    Raises ``TraceError`` for control flow that depends on values, and if autocast changes the dtype of an operator.
    """
    inlining = _Inlining()
    made = {node: inlining.graph.node_copy(node) for node in root.graph.find_nodes(op="placeholder")}
    inlining.graph.output(inlining.splice(root, made))
    read = {n.name: None for node in inlining.detached for n in node.all_input_nodes if n.op == "placeholder"}
    return Inlined(inlining.graph, tuple(read))


class _Inlining:
    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.detached: list[fx.Node] = []

    def splice(self, module: fx.GraphModule, made: dict[fx.Node, Any]) -> Any:
        """Copy the nodes of a module, and return its results; ``made`` holds values of its placeholders."""
        for node in module.graph.nodes:
            if node.op == "output":
                return fx.map_arg(node.args[0], lambda n: made[n])
            if node.op == "get_attr" and isinstance(_attribute(module, node), fx.GraphModule):
                made[node] = _attribute(module, node)
            elif node.op != "placeholder":
                made[node] = self._value(node, made)
        return None

    def _value(self, node: fx.Node, made: dict[fx.Node, Any]) -> Any:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self._wrapped(node, made)
        source = made.get(node.args[0]) if is_item(node) else None  # type: ignore[arg-type]
        if isinstance(source, list | tuple):  # the results of a wrapped graph
            return source[node.args[1]]  # type: ignore[index]
        return self.graph.node_copy(node, lambda n: made[n])

    def _wrapped(self, node: fx.Node, made: dict[fx.Node, Any]) -> Any:
        name = str(node.target)
        if name not in _OPTIONS:
            edit = _EDITS.get(name, "write it with ordinary operators")
            raise TraceError(
                f"expected a plain graph, got the control-flow operator {name} at node {node.name}; {edit}"
            )
        options, (inner, *inputs) = node.args[: _OPTIONS[name]], node.args[_OPTIONS[name] :]
        module = made[inner]  # type: ignore[index]
        if name == _AUTOCAST and options[2]:
            check_autocast(module.graph.nodes, str(options[0]))
        before = len(self.graph.nodes)
        given = [made[i] if isinstance(i, fx.Node) else i for i in inputs]
        result = self.splice(module, dict(zip(module.graph.find_nodes(op="placeholder"), given, strict=True)))
        if name == _GRADIENT and not options[0]:
            self.detached += list(self.graph.nodes)[before:]
            for detached in self.detached:
                detached.meta[STILL] = True
        return result


def _attribute(module: fx.GraphModule, node: fx.Node) -> Any:
    return attrgetter(str(node.target))(module)
