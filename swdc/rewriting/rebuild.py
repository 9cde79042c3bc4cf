"""Rebuilds a program with other tensors and arguments: the one way in which rewrites make programs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from swdc.channels.routing import PAD, SLICE, LaidOut, Routed, Step
from swdc.errors import PassError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.call import Call, Ref, bind_arguments, unbind
from swdc.ir.graph import SCOPE, SHAPE, unused
from swdc.ir.program import Program
from swdc.ir.program_facts import Origin
from swdc.ir.sizes import Shape
from swdc.ops import Leaf, Operator, calls, lookup
from swdc.ops.base import is_overload, target_of
from swdc.ops.copies import contiguous_copy
from swdc.ops.indexing import gather_call
from swdc.ops.padding import pad_call
from swdc.ops.splitting import slice_call
from swdc.rewriting.revisions import check_revision

Change = Callable[[Call, Operator], Mapping[str, Any]]
"""Returns the arguments of a call that change; ``operator`` among them replaces the operator itself.

A ``Routed`` among them is a value whose channels are picked from another value, and a ``LaidOut`` one is copied into
the usual memory layout. ``forward``, which must be the only change, is the value that replaces the result of the call.
``VANISHES`` removes the call; then nothing that stays may read its result.
"""
VANISHES: Mapping[str, Any] = {"vanishes": True}


def rebuild(
    program: Program, tensors: Mapping[str, torch.Tensor], change: Change, reshape: Callable[[fx.Node], Shape]
) -> Program:
    """Return a program of the same nodes with the given tensors, and with arguments and shapes as ``change`` and
    ``reshape`` say. Leaf modules are built anew from their arguments, so that no attribute is left stale.

    Tensors that only replaced calls read are no longer fetched.
    """  # fmt: skip
    return _Rebuilding(program, tensors, change, reshape).program()


@checked(PassError)
def revise(
    program: Program,
    tensors: Mapping[str, torch.Tensor] | None = None,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    instead: Mapping[fx.Node, fx.Node] | None = None,
) -> Program:
    """Return a program of the same shapes, which holds the given program's own tensors unless others are given.

    ``arguments`` holds the changed arguments of calls, by the name of the node. A call in ``instead`` is removed, and
    its readers read the earlier node that ``instead`` maps it to. Modes and facts are taken over, and so are the exact
    values that earlier rewrites computed, if their tensors are unchanged. Raises ``PassError`` for names that the
    program does not have, for tensors of other shapes, and if a layer cannot be built from the changed arguments.

    Example::

        halved = {name: tensor.detach() / 2 for name, tensor in program.tensors.items()}
        revised = swdc.revise(program, halved)
    """

    def change(call: Call, operator: Operator) -> Mapping[str, Any]:
        if instead and call.node in instead:
            return {"forward": instead[call.node]}
        return (arguments or {}).get(call.node.name, {})

    held = program.tensors if tensors is None else tensors
    check_revision(program, held, arguments or {}, instead or {})
    with told_as(
        PassError, "tensors and arguments of which a program can be made", "give such as it has, of its types"
    ):
        result = rebuild(program, held, change, lambda node: node.meta.get(SHAPE, ()))
    return result.with_facts(origin=still_standing(program, held))


def still_standing(program: Program, tensors: Mapping[str, torch.Tensor]) -> Origin | None:
    """Return where a program comes from, without the exact values of tensors that are not among those given."""
    origin, own = program.facts.origin, program.tensors
    if origin is None:
        return None
    return replace(origin, folded={n: v for n, v in origin.folded.items() if tensors.get(n) is own.get(n)})


def name_of_new(argument: str, call: Call, tensors: Mapping[str, torch.Tensor]) -> Ref:
    """Return a name that no tensor has for the ``weight`` or the ``bias`` of a call that has none."""
    if call.node.op == "call_module":
        return Ref(f"{call.node.target}.{argument}")
    return Ref(unused(f"{call.node.name}_{argument}", tensors))


class _Rebuilding:
    def __init__(self, program: Program, tensors: Mapping[str, torch.Tensor], change: Change, reshape: Any) -> None:
        self.old, self.tensors, self.change, self.reshape = program, dict(tensors), change, reshape
        self.graph = fx.Graph()
        self.made: dict[fx.Node, fx.Node] = {}
        self.leaves: dict[str, nn.Module] = {}
        self.fetched: dict[str, fx.Node] = {}
        self.called = set(program.leaves)
        self.occupied = _paths(program)
        self.names = {node.name for node in program.graph.nodes}

    def program(self) -> Program:
        for node in self.old.graph.nodes:
            if node.op not in ("call_function", "call_module"):
                self.made[node] = self.graph.node_copy(node, lambda n: self.made[n])
            else:
                operator, call = calls(self.old)[node]
                changes = dict(self.change(call, operator))
                if changes == VANISHES:
                    continue
                if "forward" in changes:
                    self.made[node] = self._new(changes["forward"])
                    continue
                self.made[node] = self._call(node, operator, call, changes)
            self.made[node].meta = {**node.meta, SHAPE: self.reshape(node)}
            if node.op == "get_attr":
                self.fetched[str(node.target)] = self.made[node]
        vanished = len(self.made) < len(self.old.graph.nodes)
        forwarded = any(node.name != made.name for node, made in self.made.items())
        for node in self.old.graph.find_nodes(op="get_attr") if forwarded or vanished else ():
            if node.users and not self.made[node].users:
                self.graph.erase_node(self.made[node])
        if vanished:
            self._forget_unread()
        self.graph.set_codegen(copy.copy(self.old.graph._codegen))
        facts = replace(self.old.facts, origin=None)
        return self.old.rebuilt(graph=self.graph, tensors=self.tensors, leaves=self.leaves, facts=facts)

    def _forget_unread(self) -> None:
        """Leave out the tensors that only vanished calls have read."""
        before, after = ({str(n.target) for n in g.find_nodes(op="get_attr")} for g in (self.old.graph, self.graph))
        for name in before - after:
            if name.rpartition(".")[0] not in self.leaves:
                del self.tensors[name]

    def _call(self, node: fx.Node, operator: Operator, call: Call, changes: dict[str, Any]) -> fx.Node:
        name = changes.pop("operator", call.operator)
        new = operator if name == call.operator else lookup(name)
        arguments = {**call.arguments, **changes}
        given = bool(node.kwargs) and is_overload(name)  # a module of torch takes no tensors in its call
        if node.op == "call_module" and isinstance(new, Leaf) and not given:
            own = {**arguments, **dict.fromkeys(node.kwargs)}  # without what it is given in the call
            found = self._leaf(str(node.target), node, new, Call(node, name, own))
            if found or name == call.operator or not is_overload(name):
                self._expect(found, call.operator, str(node.target))
                return self.graph.node_copy(node, lambda n: self.made[n])
        if not changes and name == call.operator:
            return self.graph.node_copy(node, lambda n: self.made[n])
        if isinstance(new, Leaf) and not is_overload(name):
            return self._replaced(node, new, Call(node, name, arguments))
        if not is_overload(name):
            args = self._new((*arguments.values(),))
            return self.graph.create_node("call_function", node.target, args, name=node.name)
        target = target_of(name)
        names = {a.name for a in target._schema.arguments}
        bound = bind_arguments(target, (), {name: value for name, value in arguments.items() if name in names})
        args, kwargs = unbind(target, bound)
        return self.graph.create_node("call_function", target, self._new(args), self._new(kwargs), node.name)

    def _replaced(self, node: fx.Node, leaf: Leaf, call: Call) -> fx.Node:
        """Replace a function by a module; tensors that the function read are passed to the module in the call."""
        path = self._free_path(node)
        given = {n: v for n, v in call.arguments.items() if n != leaf.data and isinstance(v, fx.Node | Ref)}
        found = self._leaf(path, node, leaf, Call(node, call.operator, {**call.arguments, **dict.fromkeys(given)}))
        self._expect(found, call.operator, path)
        data = self._new(call[leaf.data])
        return self.graph.create_node("call_module", path, (data,), self._new(given), node.name)

    def _leaf(self, path: str, node: fx.Node, leaf: Leaf, call: Call) -> bool:
        """Build the module of a call at a path, and return whether there is one."""
        if path in self.leaves:
            return True
        described = fx.Node(fx.Graph(), node.name, "call_module", path, (), {})
        described.meta = {**node.meta, SHAPE: self.reshape(node)}
        module = leaf.build(Call(described, call.operator, call.arguments), self.tensors)
        if module is not None:
            self.leaves[path] = module
        return module is not None

    def _expect(self, found: bool, operator: str, path: str) -> None:
        if not found:
            raise PassError(f"expected a module for {operator} at {path}, but no module computes it after the rewrite")

    def _free_path(self, node: fx.Node) -> str:
        """Return an unused path in the scope of a node that does not lie below a leaf module."""
        scope = ""
        for part in str(node.meta.get(SCOPE) or "").split("."):
            inner = f"{scope}.{part}".strip(".")
            if inner in self.called or inner in self.leaves:
                break
            scope = inner
        path = unused(f"{scope}.{node.name}".strip("."), self.occupied)
        self.occupied.add(path)
        return path

    def _new(self, arguments: Any) -> Any:
        """Return arguments for the new graph: nodes mapped, names of tensors fetched."""
        return map_aggregate(arguments, self._new_leaf)

    def _new_leaf(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.made[argument]
        if isinstance(argument, Ref):
            return self.fetched.get(argument) or self.graph.get_attr(argument)
        if isinstance(argument, Routed):
            return self._routed(argument)
        if isinstance(argument, LaidOut):
            return self._laid_out(self.made[argument.value])
        return argument

    def _laid_out(self, node: fx.Node) -> fx.Node:
        name = unused(f"{node.name}_copy", self.names)
        self.names.add(name)
        copied = contiguous_copy(node, name)
        copied.meta = dict(node.meta)
        return copied

    def _routed(self, routed: Routed) -> fx.Node:
        """Make the nodes that pick the wanted channels of a value."""
        node, dim = self.made[routed.value], routed.dim
        for step in routed.steps():
            shape = list(node.meta[SHAPE])
            target, args = self._operator(step, routed, len(shape))
            shape[dim] = step.size(shape[dim])
            name = unused(f"{routed.value.name}_{step.kind}", self.names)
            self.names.add(name)
            made = self.graph.create_node("call_function", target, (node, *args), name=name)
            made.meta = {**node.meta, SHAPE: tuple(shape)}
            node = made
        return node

    def _operator(self, step: Step, routed: Routed, rank: int) -> tuple[Any, tuple[Any, ...]]:
        """Return the operator of a step, and its arguments without the value."""
        if step.kind == SLICE:
            return slice_call(routed.dim, step.first, step.last)
        if step.kind == PAD:
            return pad_call(rank, routed.dim, step.first, step.last)
        return gather_call(routed.dim, self._constant(f"{routed.value.name}_channels", step.indices))

    def _constant(self, base: str, indices: Sequence[int]) -> fx.Node:
        """Return a node that fetches a new buffer."""
        name = unused(base, self.occupied)
        self.occupied.add(name)
        device = next((t.device for t in self.tensors.values()), None)
        self.tensors[name] = torch.tensor(indices, device=device)
        return self.graph.get_attr(name)


def _paths(program: Program) -> set[str]:
    """Return the names of all modules and tensors of a program, and the scopes of its nodes."""
    found = {path for path, _ in program.named_modules()} | set(program.tensors)
    for scope in {str(node.meta.get(SCOPE) or "") for node in program.graph.nodes}:
        parts = scope.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return found
