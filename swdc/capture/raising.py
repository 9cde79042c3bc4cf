"""Raising: turns a captured graph of ATen calls into a Program of leaf modules that hold the caller's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import _PyTreeCodeGen
from torch.fx.node import map_aggregate

from swdc.analysis.coupling import coupling_of
from swdc.capture.buffer_writes import BufferWrites
from swdc.capture.captured_graph import STILL, Captured, shape_of_value
from swdc.capture.data_dependent_sizes import measured
from swdc.capture.refusals import check_result
from swdc.capture.symbols import named_symbols, substituted, symbols_of
from swdc.capture.view_writes import ViewWrites
from swdc.ir.call import Call, Ref, bind, bind_arguments
from swdc.ir.graph import DTYPE, SCOPE, SHAPE, STACK_TRACE
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program
from swdc.ir.program_facts import Facts
from swdc.ops import Leaf, lookup
from swdc.ops.base import name_of
from swdc.ops.copies import cloned, copies_over, spread
from swdc.ops.in_place import Memory, acts, operator_of, without_side_effects
from swdc.ops.leaf_modules import path_of

_TENSOR_ARGUMENTS = ("weight", "bias", "running_mean", "running_var")


class Raising:
    """Turns a captured graph of ATen calls into a Program of leaf modules.

    ``batched`` says that the leading dimensions of all inputs are one batch.
    """

    def __init__(
        self, model: nn.Module, captured: Captured, batched: bool, example: Any, differences: Sequence[str]
    ) -> None:
        self.model, self.captured, self.batched, self.example = model, captured, batched, example
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.leaves: dict[str, nn.Module] = {}
        self.leaf_calls: dict[str, Any] = {}
        self.still: dict[str, list[str]] = {}
        self.batch, self.named = named_symbols(captured.input_shapes(), example, batched)
        self.notes = list(captured.notes)
        if differences:
            self.notes.append(differs_in_training(differences))
        self.tensors = tensors_of(model)
        self.writes = BufferWrites(captured, self.tensors)
        self.memory = Memory(captured.graph, self.writes.lasting())
        self.views = ViewWrites(self.memory, lambda argument: self._fetched(self._mapped(argument)), self._noted)
        self.transient = {
            f"{path}.{name}" if path else name
            for path, module in model.named_modules()
            for name in module._non_persistent_buffers_set
        }
        self.owned: dict[str, set[str]] = {}
        for name in self.tensors:
            path, _, attribute = name.rpartition(".")
            self.owned.setdefault(path, set()).add(attribute)
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.occupied = {name for name, _ in model.named_modules()} | set(self.owned)

    def program(self, everything: bool = False) -> Program:
        """Return the finished Program; with ``everything`` it computes what nothing uses, too."""
        for node in self.captured.graph.nodes:
            if node.op in ("placeholder", "get_attr"):
                self._place(node)
            elif node.op == "call_function" and not operator_of(node.target).checks:
                self.values[node] = self._call(node)
            elif node.op == "output":
                self.writes.put_back(self.graph, lambda value: self._fetched(self.values.get(value, value)))
                check_result(self.model, node.args[0])
                self.graph.output(tuple(self._fetched(self._mapped(node.args[0]))))
        if not everything:
            self._erase_unused()
        self.graph.set_codegen(_PyTreeCodeGen(self.captured.signature))
        notes = tuple(dict.fromkeys([*self.notes, *self._fixed_modes()]))
        found = self.captured
        facts = Facts(
            symbols_of(self.graph, self.example), self.batch, self.example, notes=notes, captured_by=found.by,
            example_only=found.example_only, attempts=found.attempts, conditions=found.conditions, fixed=found.fixed,
        )  # fmt: skip
        program = Program(self.graph, self.tensors, self.leaves, facts, self.transient, analyse=coupling_of)
        program.follow_modes(self.model)  # a batch norm that trains would change the model's statistics
        return program.with_facts(symbols=measured(program))

    # -- nodes --------------------------------------------------------------------------------------------------

    def _place(self, node: fx.Node) -> None:
        name = self.captured.tensors.get(node.name)
        if name is None:
            self.values[node] = self.graph.placeholder("self_" if node.name == "self" else node.name)
            self._describe(self.values[node], node)
            return
        constant = self.captured.constants.get(name)
        if constant is not None and self.tensors.get(name) is not constant:
            self.tensors[name] = constant
            self.transient.add(name)
        self.values[node] = Ref(name)
        copy = self.writes.fetched(self.graph, name)
        if copy is not None:
            self.values[node] = self._noted(copy, node)

    def _call(self, node: fx.Node) -> fx.Node:
        target, mutated = self._functional(node)
        args, kwargs = self._mapped(node.args), self._mapped(node.kwargs)
        made = self._copied(node, target, args) or self._leaf(node, target, args, kwargs)
        if made is None:
            made = self.graph.call_function(target, self._fetched(args), self._fetched(kwargs))
            self._find_fixed_mode(made)
        self._noted(made, node)
        return made if mutated is None else self._overwritten(mutated, made, node)

    def _copied(self, node: fx.Node, target: Any, args: Any) -> fx.Node | None:
        """Return a copy of what is written over a tensor of the same type: ``aten.copy`` itself has no gradient."""
        written: Any = node.args[:2]
        if not copies_over(target) or len({getattr(each.meta["val"], "dtype", None) for each in written}) > 1:
            return None
        old, new = self._fetched(args[:2])
        if len({shape_of_value(each.meta["val"]) for each in written}) > 1:
            new = self._noted(spread(new, old), node)
        return cloned(new)

    def _functional(self, node: fx.Node) -> tuple[Any, fx.Node | None]:
        """Return the side-effect-free operator that can replace an in-place one, and the input that is overwritten."""
        target = operator_of(node.target).anywhere(node.target)
        if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            return target, None
        x = node.args[0]
        functional = without_side_effects(target)
        if functional is None or not isinstance(x, fx.Node):
            return target, None
        aliases = self._aliases(node, x)
        dtype = x.meta["val"].dtype
        others = [getattr(v.meta["val"], "dtype", None) for v in node.all_input_nodes]
        same = all(other == dtype for other in others if other and other.is_floating_point and dtype.is_floating_point)
        if not same or (aliases and not (len(set(others)) == 1 and self.views.can_follow(x, aliases))):
            return target, None
        return functional, x

    def _aliases(self, node: fx.Node, x: fx.Node) -> list[fx.Node]:
        """Return the values that share the memory which a node overwrites, are read later, and are not ``x`` itself."""
        return [other for other in self.memory.read_later(node) if self.values[other] is not self.values[x]]

    def _overwritten(self, x: fx.Node, by: fx.Node, node: fx.Node) -> fx.Node:
        """Let later readers of an overwritten value, and of all that shares its memory, read the new values."""
        aliases = self._aliases(node, x)
        changed = self.views.after(x, by, aliases) if aliases else {}
        for other, value in changed.items():
            if other is not x:
                self._replace(other, value, node)
        return self._replace(x, by, node)

    def _replace(self, mutated: fx.Node, by: fx.Node, node: fx.Node) -> fx.Node:
        """Let later readers of an overwritten value, or of an alias of it, read the new value, which is returned."""
        old = self.values[mutated]
        if isinstance(old, Ref) and self.writes.name_of(mutated) is None:
            self.notes.append(f"the model overwrites {old} in evaluation; the program does not")
        made, by = by, self.writes.note(mutated, bool(node.meta.get(STILL)), old, by)
        if by is not made:
            self._noted(by, node)
        for node, value in self.values.items():
            if value is old:
                self.values[node] = by
        return by

    def _leaf(self, node: fx.Node, target: Any, args: Any, kwargs: Any) -> fx.Node | None:
        """Return a call of a leaf module if one computes exactly this call."""
        operator = lookup(name_of(target))
        if not isinstance(operator, Leaf):
            return None
        bound = bind_arguments(target, args, kwargs)
        call = Call(node, name_of(target), bound)
        tensors = [a for a in _TENSOR_ARGUMENTS if bound.get(a) is not None]
        path = path_of(call, *tensors) if tensors else self._free_path(node, name_of(target), operator)
        if path is None:
            return None
        bound = dict(operator.completed(bound, self.modules.get(path)))
        described = fx.Node(fx.Graph(), node.name, "call_function", target, (), {})
        described.meta[SHAPE] = self._shape(node.meta["val"])
        module = operator.build(Call(described, name_of(target), bound), self.tensors)
        if module is None:
            return None
        signature = str(sorted((k, str(v)) for k, v in bound.items() if k != operator.data))
        if path in self.leaves and self.leaf_calls[path] != signature:
            return None
        if self.owned.get(path, set()) - {*module._parameters, *module._buffers}:
            return None
        if path not in self.leaves:
            self.leaves[path], self.leaf_calls[path] = module, signature
        return self.graph.call_module(path, (self._fetched(bound[operator.data]),))

    def _free_path(self, node: fx.Node, name: str, operator: Leaf) -> str:
        """Return the path of a leaf without tensors: that of the user's module if it keeps it, else a new one."""
        scope, cls = _scope(node)
        if operator.keeps_path and cls in map(_qualified, operator.modules):
            return scope
        base = f"{scope}.{name.split('.')[1]}" if scope else name.split(".")[1]
        path, number = base, 1
        while path in self.occupied or path in self.leaves:
            path, number = f"{base}_{number}", number + 1
        return path

    def _find_fixed_mode(self, node: fx.Node) -> None:
        if operator_of(node.target).keeps_still(bind(node)):
            self.still.setdefault(name_of(node.target), []).append(node.name)

    def _fixed_modes(self) -> list[str]:
        found = {operator: f" and {len(n) - 1} more" if len(n) > 1 else "" for operator, n in self.still.items()}
        return [
            f"{operator} (node {self.still[operator][0]}{more}) keeps its evaluation mode in training; train the model "
            f"itself, then trace and slim it"
            for operator, more in found.items()
        ]

    # -- helpers ------------------------------------------------------------------------------------------------

    def _mapped(self, argument: Any) -> Any:
        return fx.map_arg(argument, lambda n: self.values[n])

    def _fetched(self, arguments: Any) -> Any:
        """Return arguments with names of tensors replaced by nodes that fetch the tensors."""
        return map_aggregate(arguments, lambda leaf: self.graph.get_attr(leaf) if isinstance(leaf, Ref) else leaf)

    def _noted(self, made: fx.Node, node: fx.Node) -> fx.Node:
        made.meta[STACK_TRACE] = node.meta.get("stack_trace")
        self._describe(made, node)
        return made

    def _describe(self, made: fx.Node, node: fx.Node) -> None:
        value = node.meta.get("val")
        made.meta[SHAPE] = self._shape(value)
        made.meta[DTYPE] = getattr(value, "dtype", None)
        made.meta[SCOPE] = _scope(node)[0]

    def _shape(self, value: Any) -> Any:
        shape = shape_of_value(value)
        return substituted(shape, self.named) if self.named else shape

    def _erase_unused(self) -> None:
        for node in reversed(list(self.graph.nodes)):
            if node.op in ("placeholder", "output") or node.users:
                continue
            if not acts(node) and not self._steers(node):
                self.graph.erase_node(node)
        called = {n.target for n in self.graph.nodes if n.op == "call_module"}
        self.leaves = {path: module for path, module in self.leaves.items() if path in called}
        leaves = self.leaves.values()
        held = {id(tensor) for leaf in leaves for tensor in (*leaf._parameters.values(), *leaf._buffers.values())}
        read = {str(node.target) for node in self.graph.find_nodes(op="get_attr")}
        for name, constant in self.captured.constants.items():
            if name not in read and id(constant) not in held and self.tensors.get(name) is constant:
                del self.tensors[name]
                self.transient.discard(name)

    def _steers(self, node: fx.Node) -> bool:
        """Whether recorded code branches on the values of a node, so that the layers before it are used."""
        return self.captured.example_only and node.op == "call_function" and operator_of(node.target).steers


def differs_in_training(paths: Sequence[str]) -> str:
    """Return the note on modules that do something of their own in training."""
    named = ", ".join(path or "the model" for path in paths[:4])
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return (
        f"what {named}{more} computes in training differs from evaluation by more than dropout and batch "
        f"norm; train the model itself, then trace and slim it"
    )


def _scope(node: fx.Node) -> tuple[str, str]:
    """Return the path and the class of the innermost module that a node was traced in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, cls = stack[-1]
    return path, cls if isinstance(cls, str) else _qualified(cls)


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
