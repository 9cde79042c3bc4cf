"""Rebuilding a program with other tensors and other literal arguments: the one way in which rewrites make programs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from swdc.call import Call, Ref, unbind
from swdc.errors import PassError
from swdc.ops import Leaf, Operator, calls
from swdc.ops.base import target_of
from swdc.program import SHAPE, Program
from swdc.sizes import Shape

Change = Callable[[Call, Operator], Mapping[str, Any]]
"""Returns the arguments of a call that change; ``operator`` among them replaces the operator itself."""


def rebuild(
    program: Program,
    tensors: Mapping[str, torch.Tensor],
    change: Change,
    reshape: Callable[[fx.Node], Shape],
    transient: Iterable[str] = (),
) -> Program:
    """Return a program of the same nodes with the given tensors, and with arguments and shapes as ``change`` and
    ``reshape`` say. Leaf modules are built anew from their arguments, so that no attribute is left stale.
    """  # fmt: skip
    return _Rebuilding(program, tensors, change, reshape).program(transient)


class _Rebuilding:
    def __init__(self, program: Program, tensors: Mapping[str, torch.Tensor], change: Change, reshape: Any) -> None:
        self.old, self.tensors, self.change, self.reshape = program, tensors, change, reshape
        self.graph = fx.Graph()
        self.made: dict[fx.Node, fx.Node] = {}
        self.leaves: dict[str, nn.Module] = {}
        self.fetched: dict[str, fx.Node] = {}

    def program(self, transient: Iterable[str]) -> Program:
        for node in self.old.graph.nodes:
            if node.op in ("call_function", "call_module"):
                self.made[node] = self._call(node)
            else:
                self.made[node] = self.graph.node_copy(node, lambda n: self.made[n])
            self.made[node].meta = {**node.meta, SHAPE: self.reshape(node)}
            if node.op == "get_attr":
                self.fetched[str(node.target)] = self.made[node]
        self.graph.set_codegen(copy.copy(self.old.graph._codegen))
        facts = replace(self.old.facts, origin=None)
        program = Program(self.graph, self.tensors, self.leaves, facts, transient)
        return program.follow_modes(self.old)

    def _call(self, node: fx.Node) -> fx.Node:
        operator, call = calls(self.old)[node]
        changes = dict(self.change(call, operator))
        if node.op == "call_module":
            assert isinstance(operator, Leaf)
            self._leaf(node, operator, call, changes)
            return self.graph.node_copy(node, lambda n: self.made[n])
        if not changes:
            return self.graph.node_copy(node, lambda n: self.made[n])
        target = target_of(changes.pop("operator", call.operator))
        names = {a.name for a in target._schema.arguments}
        bound = {name: value for name, value in {**call.arguments, **changes}.items() if name in names}
        args, kwargs = unbind(target, bound)
        return self.graph.create_node("call_function", target, self._new(args), self._new(kwargs), node.name)

    def _leaf(self, node: fx.Node, operator: Leaf, call: Call, changes: dict[str, Any]) -> None:
        path = str(node.target)
        if path in self.leaves:
            return
        described = fx.Node(fx.Graph(), node.name, "call_module", path, (), {})
        described.meta = {**node.meta, SHAPE: self.reshape(node)}
        module = operator.build(Call(described, call.operator, {**call.arguments, **changes}), self.tensors)
        if module is None:
            raise PassError(f"expected a module for {call.operator} at {path}, but none computes it after the rewrite")
        self.leaves[path] = module

    def _new(self, argument: Any) -> Any:
        """Return arguments for the new graph: nodes mapped, names of tensors fetched."""
        if isinstance(argument, fx.Node):
            return self.made[argument]
        if isinstance(argument, Ref):
            return self.fetched.get(argument) or self.graph.get_attr(argument)
        if isinstance(argument, list | tuple):
            return type(argument)(self._new(a) for a in argument)
        if isinstance(argument, dict):
            return {name: self._new(value) for name, value in argument.items()}
        return argument
