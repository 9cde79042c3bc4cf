"""Joins two runs at different batches into one graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from swdc.capture.captured_graph import STILL, Captured, Value, dropped_buffers, frozen_reads, signature
from swdc.capture.runs import Run, Slot, Step
from swdc.capture.way import CannotCapture
from swdc.ir.module_tensors import tensors_of
from swdc.ir.sizes import Size
from swdc.ops.creation import product_of, size_of, sum_of
from swdc.ops.items import item_of

BATCH = "batch"
"""The symbol of the batch."""
_LARGEST_CONSTANT = 4096


def named_leaves(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return the leaves of the inputs, each with a name: that of its argument, and the path inside the argument."""
    arguments = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind != p.VAR_POSITIONAL]
    return [(_name(path, arguments), leaf) for path, leaf in pytree.tree_flatten_with_path(inputs)[0]]


def _name(path: Any, arguments: list[str]) -> str:
    keys = [str(getattr(key, "idx", getattr(key, "key", ""))) for key in path[1:]]
    if keys[0].isdigit():
        keys[0] = arguments[int(keys[0])] if int(keys[0]) < len(arguments) else f"input_{keys[0]}"
    return "_".join(keys)


class Joining:
    """Joins two runs into one graph. If both runs are the same one, every size in the graph is fixed."""

    def __init__(self, model: nn.Module, leaves: list[tuple[str, Any]], one: Run, other: Run) -> None:
        """``leaves`` are the inputs with their names."""
        self.model, self.one, self.other = model, one, other
        self.symbol = sympy.Symbol(BATCH, integer=True, positive=True)
        self.graph = fx.Graph()
        self.owned = tensors_of(model)
        self.tensors: dict[str, str] = {}
        self.inputs: list[fx.Node] = [self._placeholder(leaf, name) for name, leaf in leaves]
        self.made: dict[Any, fx.Node] = {}
        self.batch: dict[tuple[int, int], fx.Node] = {}

    def captured(self, inputs: pytree.TreeSpec) -> Captured:
        """Return the graph, given the structure of the inputs."""
        one, other = self.one, self.other
        if len(one.steps) != len(other.steps) or one.structure != other.structure:
            raise CannotCapture("the model calls other operators for another batch")
        if not same_constants(one, other):
            raise CannotCapture("the values of a tensor that the model makes depend on the batch")
        for number, (step, twin) in enumerate(zip(one.steps, other.steps, strict=True)):
            self._call(number, step, twin)
        replaced = {name: self._both(slot, other.replaced.get(name)) for name, slot in one.replaced.items()}
        self.graph.output(tuple(self._both(a, b) for a, b in zip(one.outputs, other.outputs, strict=True)))
        called = signature(self.model, inputs, one.structure)
        return Captured(self.graph, self.tensors, one.constants, called, self._notes(), replaced, one.counted)

    def _placeholder(self, leaf: Any, name: str) -> fx.Node:
        node = self.graph.placeholder(name)
        if isinstance(leaf, torch.Tensor):
            dynamic = leaf.dim() > 0 and self.one is not self.other
            node.meta["val"] = Value((self.symbol, *leaf.shape[1:]) if dynamic else tuple(leaf.shape), leaf.dtype)
        return node

    def _call(self, number: int, step: Step, twin: Step) -> None:
        if step.target is not twin.target or len(step.results) != len(twin.results):
            raise CannotCapture("the model calls other operators for another batch")
        args, kwargs = self._both(step.args, twin.args), self._both(step.kwargs, twin.kwargs)
        values = [self._value(a, b) for a, b in zip(step.results, twin.results, strict=True)]
        node = self._node(step.target, tuple(args), kwargs, values[0] if step.single else values, step)
        if step.single:
            self.made[number, None] = node
            return
        for index, value in enumerate(values):
            if value is not None:
                self.made[number, index] = self._noted(item_of(node, index), value, step)

    def _node(self, target: Any, args: Any, kwargs: Any, value: Any, step: Step) -> fx.Node:
        return self._noted(self.graph.call_function(target, args, kwargs), value, step)

    def _noted(self, node: fx.Node, value: Any, step: Step) -> fx.Node:
        node.meta.update(val=value, stack_trace=step.line, nn_module_stack={"": step.scope} if step.scope[1] else {})
        node.meta[STILL] = not step.learns
        return node

    def _value(self, one: Value | None, other: Value | None) -> Value | None:
        if one is None or other is None:
            return None
        if len(one.shape) != len(other.shape) or one.dtype != other.dtype:
            raise CannotCapture("the rank of a tensor depends on the batch")
        return Value(tuple(self._size(a, b) for a, b in zip(one.shape, other.shape, strict=True)), one.dtype)

    def _size(self, one: Any, other: Any) -> Size:
        times, plus = self._linear(int(one), int(other))
        return times * self.symbol + plus if times else plus

    def _linear(self, one: int, other: int) -> tuple[int, int]:
        """Return how a number depends on the batch: the factor of the batch, and the constant that is added."""
        if one == other:
            return 0, one
        times, rest = divmod(other - one, self.other.batch - self.one.batch)
        plus = one - times * self.one.batch
        if rest or (times and abs(plus) > _LARGEST_CONSTANT):
            raise CannotCapture("a number depends on the batch, but not as a multiple of it plus a constant")
        return times, plus

    def _both(self, one: Any, other: Any) -> Any:
        """Return the argument of the graph that stands for an argument of both runs."""
        if isinstance(one, Slot):
            if one != other:
                raise CannotCapture("the model reads other tensors for another batch")
            return self._read(one)
        if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
            return [self._both(a, b) for a, b in zip(one, other, strict=True)]
        if isinstance(one, dict):
            return {name: self._both(value, other[name]) for name, value in one.items()}
        if type(one) is int and type(other) is int and one != other:
            return self._number(*self._linear(one, other))
        if one != other and not (one != one and other != other):  # nan is nan
            raise CannotCapture("a number depends on the batch")
        return one

    def _read(self, slot: Slot) -> fx.Node:
        if slot.kind == "input":
            return self.inputs[int(slot.key)]
        key: Any = slot.key if slot.kind == "call" else slot
        if key not in self.made:
            node = self.graph.create_node("get_attr", slot.key)
            tensor = self.one.constants[slot.key] if slot.kind == "constant" else self.owned[slot.key]
            node.meta["val"] = Value(tuple(tensor.shape), tensor.dtype)
            self.tensors[node.name] = slot.key
            self.made[key] = node
        return self.made[key]

    def _number(self, times: int, plus: int) -> fx.Node:
        """Return the node of a number that depends on the batch."""
        if (times, plus) not in self.batch:
            if (times, plus) == (1, 0):
                first = next(node for node in self.inputs if getattr(node.meta.get("val"), "shape", ()))
                node = size_of(first, 0)
            elif plus:
                node = sum_of(self._number(times, 0), plus)
            else:
                node = product_of(self._number(1, 0), times)
            node.meta["val"] = None  # a number, not a tensor
            self.batch[times, plus] = node
        return self.batch[times, plus]

    def _notes(self) -> tuple[str, ...]:
        still = [leaf for s in self.one.steps if not s.learns for leaf in pytree.tree_leaves((s.args, s.kwargs))]
        read = [s.key for s in still if isinstance(s, Slot) and s.kind == "tensor"]
        return frozen_reads(self.model, read) + dropped_buffers(self.one.dropped)


def same_constants(one: Run, other: Run) -> bool:
    """Whether two runs made the same tensors of their own, such as ``torch.tensor(2.0)``."""
    return one.constants.keys() == other.constants.keys() and all(
        _same_values(tensor, other.constants[name]) for name, tensor in one.constants.items()
    )


def _same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.numel() == 0 or bool(((one == other) | ((one != one) & (other != other))).all())  # nan is nan


def check_witness(one: Run, other: Run, witness: Run) -> None:
    """Raise ``CannotCapture`` unless a third run did what the first two predict for its batch."""
    if not bears_witness(one, other, witness, lambda step: (step.args, step.kwargs)):
        raise CannotCapture(f"the model does something else for a batch of {witness.batch}")


def bears_witness(one: Run, other: Run, witness: Run, said: Callable[[Step], Any]) -> bool:
    """Whether a third run did what the first two predict for its batch.

    ``said`` returns the arguments of a step that are compared.
    """

    def told(a: Any, b: Any) -> Any:
        return a + (b - a) // (other.batch - one.batch) * (witness.batch - one.batch)

    def agree(a: Any, b: Any, c: Any) -> bool:
        if isinstance(a, list | tuple) and isinstance(b, list | tuple):
            return isinstance(c, list | tuple) and len(a) == len(b) == len(c) and all(map(agree, a, b, c))
        if isinstance(a, dict):
            return a.keys() == b.keys() == c.keys() and all(agree(a[k], b[k], c[k]) for k in a)
        if isinstance(a, Value):
            return isinstance(b, Value) and isinstance(c, Value) and agree(a.shape, b.shape, c.shape)
        if type(a) is int and type(b) is int and a != b:
            return bool(c == told(a, b))
        return bool(a == c or (a != a and c != c))

    def all_of(run: Run) -> Any:
        return [run.outputs, run.replaced, *((said(step), step.results) for step in run.steps)]

    same = one.structure == witness.structure and [s.target for s in one.steps] == [s.target for s in witness.steps]
    return same and same_constants(one, witness) and agree(all_of(one), all_of(other), all_of(witness))
