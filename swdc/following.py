"""Capture by following: the model runs twice on tensors without values, and every operator that it calls is noted.

The two runs have batches of different prime sizes. What is the same in both does not depend on the batch; a size
that differs is a multiple of the batch plus a constant, else the model cannot be followed. Runs with small batches,
that of the example among them, bear witness that this holds for those too. All this takes a fraction of the time of
``torch.export``, which reasons about symbols at every operator.
"""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._export.utils import _compiling_state_context
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from swdc.batching import shared_batch
from swdc.captured import FOLLOW, Captured, Value, frozen_reads, signature
from swdc.program import tensors_of
from swdc.sizes import Size

BATCHES = (10007, 10009)
"""Primes beyond any width in use, so that a size tells what it is made of."""
BATCH = "batch"
_LIKE_THEIR_INPUT = frozenset(
    f"aten.{name}.default"
    for name in "batch_norm layer_norm group_norm relu relu_ relu6 relu6_ hardtanh hardtanh_ silu silu_ gelu hardswish "
    "hardswish_ hardsigmoid hardsigmoid_ sigmoid sigmoid_ tanh dropout dropout_".split()
)
"""Operators whose result has the form of what they read: there is no need to have torch find it out."""
_WITNESS = 2
"""A small and even batch, at which a model must do the same: its code may depend on how large the batch is."""
_LARGEST_CONSTANT = 4096
_MOST_CALLS = 50_000


class CannotFollow(Exception):  # noqa: N818
    """What a model does cannot be told from running it without values."""


@dataclass(frozen=True)
class Slot:
    """A tensor that a call reads: ``kind`` is input, tensor (of the model), constant, or call; ``key`` which one."""

    kind: str
    key: Any


@dataclass(frozen=True)
class Step:
    """One call of an operator, with a ``Slot`` in the place of each tensor."""

    target: Any
    args: Any
    kwargs: Any
    results: tuple[Value | None, ...]
    single: bool
    scope: tuple[str, str]
    line: str
    learns: bool


@dataclass(frozen=True)
class Run:
    """All calls of one run, and what it returned."""

    batch: int
    steps: list[Step]
    outputs: list[Any]
    structure: pytree.TreeSpec
    constants: Mapping[str, torch.Tensor]


def follow(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
    """Return the graph of a model whose inputs share a batch, with the batch dynamic.

    Raises ``CannotFollow``, or whatever the model raises on tensors without values.
    """
    if shared_batch((args, dict(kwargs))) is None:
        raise CannotFollow("the inputs share no batch")
    inputs = (tuple(args), dict(kwargs))
    one, other = (_run(model, inputs, batch) for batch in BATCHES)
    for batch in sorted({_WITNESS, shared_batch(inputs) or _WITNESS} - {1}):
        _check_witness(one, other, _run(model, inputs, batch))
    paths, structure = pytree.tree_flatten_with_path(inputs)
    names = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind != p.VAR_POSITIONAL]
    leaves = [(_name(path, names), leaf) for path, leaf in paths]
    return _Joining(model, leaves, one, other).captured(structure)


def _name(path: Any, arguments: list[str]) -> str:
    """Return the name of an input: that of its argument, followed by where it lies within."""
    keys = [str(getattr(key, "idx", getattr(key, "key", ""))) for key in path[1:]]
    if keys[0].isdigit():
        keys[0] = arguments[int(keys[0])] if int(keys[0]) < len(arguments) else f"input_{keys[0]}"
    return "_".join(keys)


def _run(model: nn.Module, inputs: Any, batch: int) -> Run:
    recorder = _Recorder(model, pytree.tree_leaves(inputs), batch)
    with _as_export_does(), recorder.listening(model):
        positional, keywords = pytree.tree_unflatten(recorder.inputs, pytree.tree_structure(inputs))
        with recorder:
            result = model(*positional, **keywords)
    leaves, structure = pytree.tree_flatten(result)
    outputs = [recorder.slot(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return Run(batch, recorder.steps, outputs, structure, recorder.constants)


@contextmanager
def _as_export_does() -> Iterator[None]:
    """Tell libraries that a model is being captured, and let none take a fused path or draw random numbers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(_compiling_state_context())
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(enable_python_dispatcher())
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class _Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operator before it is taken apart, and runs it on the meta device."""

    def __init__(self, model: nn.Module, leaves: list[Any], batch: int) -> None:
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)  # type: ignore[no-untyped-call]
        self._mode_key = torch._C._TorchDispatchModeKey.PROXY
        self.pre_dispatch = True
        self.steps: list[Step] = []
        self.constants: dict[str, torch.Tensor] = {}
        self.scopes: list[tuple[str, str]] = []
        self._device = next((t.device for t in leaves if isinstance(t, torch.Tensor)), torch.device("cpu"))
        tensors = tensors_of(model)
        self._names = {id(t): name for name, t in reversed(tensors.items())}
        self._memory = {t.untyped_storage()._cdata for t in tensors.values()}
        self._slots: dict[int, Slot] = {}
        self._fresh: dict[int, tuple[Slot, Any]] = {}
        self._shadows: dict[int, torch.Tensor] = {}
        self._alive: list[Any] = [*tensors.values()]
        self.inputs = [self._input(leaf, number, batch) for number, leaf in enumerate(leaves)]

    def __enter__(self) -> Any:
        return TorchDispatchMode.__enter__(self)  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> Any:
        return TorchDispatchMode.__exit__(self, *error)  # type: ignore[no-untyped-call]

    def _input(self, leaf: Any, number: int, batch: int) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        shape = (batch, *leaf.shape[1:]) if leaf.dim() else ()
        made = torch.empty(shape, dtype=leaf.dtype, device="meta")
        self._know(made, Slot("input", number))
        return made

    @contextmanager
    def listening(self, model: nn.Module) -> Iterator[None]:
        """Keep track of the module whose code runs."""
        handles: list[Any] = []
        for path, module in model.named_modules():
            scope = (path, f"{type(module).__module__}.{type(module).__qualname__}")
            handles.append(module.register_forward_pre_hook(lambda *_, scope=scope: self.scopes.append(scope)))
            handles.append(module.register_forward_hook(lambda *_: self.scopes.pop() and None))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.HigherOrderOperator) or len(self.steps) > _MOST_CALLS:
            raise CannotFollow(f"{func} is more than one operator")
        if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
            raise CannotFollow("autocast changes types")
        args = list(args)
        known, named = _mapped([args, kwargs], self._slot_or_home)
        if func._schema.is_mutable and getattr(known[0], "kind", "") == "constant":
            raise CannotFollow("the model overwrites a tensor that it does not own")
        result = self._result(func, args, kwargs)
        self._note(func, known, named, result)
        return result

    def _result(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if not _any([args, kwargs], self._lacks_values):
            return func(*args, **kwargs)
        if str(func) in _LIKE_THEIR_INPUT and self._shadow(args[0]).is_floating_point():
            return args[0] if func._schema.is_mutable else torch.empty_like(self._shadow(args[0]))
        return func(*_mapped(args, self._on_meta), **_mapped(kwargs, self._on_meta))

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        single = isinstance(result, torch.Tensor)
        results = [result] if single else list(result) if isinstance(result, list | tuple) else []
        if not any(isinstance(r, torch.Tensor) for r in results):
            return  # a number read from a constant
        for number, tensor in enumerate(results):
            if isinstance(tensor, torch.Tensor):
                slot = Slot("call", (len(self.steps), None if single else number))
                self._know(tensor, slot)
                if not _any([args, kwargs], lambda leaf: isinstance(leaf, Slot)):
                    self._fresh[tensor.untyped_storage()._cdata] = slot, (tensor.shape, tensor.stride())
        values = tuple(Value(tuple(t.shape), t.dtype) if isinstance(t, torch.Tensor) else None for t in results)
        scope = self.scopes[-1] if self.scopes else ("", "")
        line = _user_line(sys._getframe(2))
        self.steps.append(Step(func, args, kwargs, values, single, scope, line, torch.is_grad_enabled()))

    def _slot_or_home(self, leaf: Any) -> Any:
        """Return a tensor's slot, and the device of the example in the place of the one without values."""
        if isinstance(leaf, torch.Tensor):
            return self.slot(leaf)
        return self._device if isinstance(leaf, torch.device) and leaf.type == "meta" else leaf

    def _lacks_values(self, leaf: Any) -> bool:
        return isinstance(leaf, torch.Tensor) and (leaf.device.type == "meta" or id(leaf) in self._names)

    def _on_meta(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return self._shadow(leaf)
        return torch.device("meta") if isinstance(leaf, torch.device) else leaf

    def slot(self, tensor: torch.Tensor) -> Slot:
        """Return where a tensor comes from."""
        if id(tensor) in self._slots:
            return self._slots[id(tensor)]
        if id(tensor) in self._names:
            return Slot("tensor", self._names[id(tensor)])
        memory = tensor.untyped_storage()._cdata
        if memory in self._fresh and self._fresh[memory][1] == (tensor.shape, tensor.stride()):
            return self._fresh[memory][0]  # torch hands out a new tensor in the place of the one that it made
        if tensor.device.type == "meta" or memory in self._memory:
            raise CannotFollow("a tensor was made behind the back of the dispatcher")
        name = f"constants.{len(self.constants)}"
        self.constants[name] = tensor.detach().clone()
        self._know(tensor, Slot("constant", name))
        return self._slots[id(tensor)]

    def _know(self, tensor: torch.Tensor, slot: Slot) -> None:
        self._slots[id(tensor)] = slot
        self._alive.append(tensor)

    def _shadow(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type == "meta" and id(tensor) not in self._names:
            return tensor
        if id(tensor) not in self._shadows:
            made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
            self._shadows[id(tensor)] = made
        return self._shadows[id(tensor)]


def _user_line(frame: FrameType | None) -> str:
    """Return the innermost frame outside torch as a line of a traceback."""
    while frame is not None and _is_inner(frame.f_code.co_filename):
        frame = frame.f_back
    return f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}' if frame else ""


@cache
def _is_inner(file: str) -> bool:
    return "/torch/" in file.replace("\\", "/") or file == __file__


def _mapped(argument: Any, function: Callable[[Any], Any]) -> Any:
    """Return nested lists of arguments with a function applied to each."""
    if isinstance(argument, list | tuple):
        return [_mapped(item, function) for item in argument]
    if isinstance(argument, dict):
        return {name: _mapped(value, function) for name, value in argument.items()}
    return function(argument)


def _any(argument: Any, holds: Callable[[Any], bool]) -> bool:
    """Whether something holds for one of nested lists of arguments."""
    if isinstance(argument, dict):
        return any(_any(value, holds) for value in argument.values())
    return any(_any(item, holds) for item in argument) if isinstance(argument, list | tuple) else holds(argument)


def _check_witness(one: Run, other: Run, witness: Run) -> None:
    """Raise ``CannotFollow`` unless a run did what the two others tell of its batch."""

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

    def said(run: Run) -> Any:
        return [run.outputs, *((s.args, s.kwargs, s.results) for s in run.steps)]

    same = one.structure == witness.structure and [s.target for s in one.steps] == [s.target for s in witness.steps]
    if not same or not agree(said(one), said(other), said(witness)):
        raise CannotFollow(f"the model does something else for a batch of {witness.batch}")


class _Joining:
    """Makes one graph of two runs."""

    def __init__(self, model: nn.Module, leaves: list[tuple[str, Any]], one: Run, other: Run) -> None:
        """``leaves`` are the inputs with their names."""
        self.model, self.one, self.other = model, one, other
        self.graph = fx.Graph()
        self.owned = tensors_of(model)
        self.tensors: dict[str, str] = {}
        self.inputs: list[fx.Node] = [self._placeholder(leaf, name) for name, leaf in leaves]
        self.made: dict[Any, fx.Node] = {}
        self.batch: dict[tuple[int, int], fx.Node] = {}
        self.symbol = sympy.Symbol(BATCH, integer=True, positive=True)

    def captured(self, inputs: pytree.TreeSpec) -> Captured:
        one, other = self.one, self.other
        if len(one.steps) != len(other.steps) or one.structure != other.structure:
            raise CannotFollow("the model calls other operators for another batch")
        for number, (step, twin) in enumerate(zip(one.steps, other.steps, strict=True)):
            self._call(number, step, twin)
        self.graph.output(tuple(self._both(a, b) for a, b in zip(one.outputs, other.outputs, strict=True)))
        called = signature(self.model, inputs, one.structure)
        return Captured(self.graph, self.tensors, one.constants, called, FOLLOW, self._notes())

    def _placeholder(self, leaf: Any, name: str) -> fx.Node:
        node = self.graph.placeholder(name)
        if isinstance(leaf, torch.Tensor):
            symbol = sympy.Symbol(BATCH, integer=True, positive=True)
            node.meta["val"] = Value((symbol, *leaf.shape[1:]) if leaf.dim() else (), leaf.dtype)
        return node

    def _call(self, number: int, step: Step, twin: Step) -> None:
        if step.target is not twin.target or len(step.results) != len(twin.results):
            raise CannotFollow("the model calls other operators for another batch")
        args, kwargs = self._both(step.args, twin.args), self._both(step.kwargs, twin.kwargs)
        values = [self._value(a, b) for a, b in zip(step.results, twin.results, strict=True)]
        node = self._node(step.target, tuple(args), kwargs, values[0] if step.single else values, step)
        if step.single:
            self.made[number, None] = node
            return
        for index, value in enumerate(values):
            if value is not None:
                self.made[number, index] = self._node(operator.getitem, (node, index), {}, value, step)

    def _node(self, target: Any, args: Any, kwargs: Any, value: Any, step: Step) -> fx.Node:
        node = self.graph.call_function(target, args, kwargs)
        node.meta.update(val=value, stack_trace=step.line, nn_module_stack={"": step.scope} if step.scope[1] else {})
        return node

    def _value(self, one: Value | None, other: Value | None) -> Value | None:
        if one is None or other is None:
            return None
        if len(one.shape) != len(other.shape) or one.dtype != other.dtype:
            raise CannotFollow("the rank of a tensor depends on the batch")
        return Value(tuple(self._size(a, b) for a, b in zip(one.shape, other.shape, strict=True)), one.dtype)

    def _size(self, one: Any, other: Any) -> Size:
        times, plus = self._linear(int(one), int(other))
        return times * self.symbol + plus if times else plus

    def _linear(self, one: int, other: int) -> tuple[int, int]:
        """Return how a number depends on the batch: how often it counts, and what is added."""
        times, rest = divmod(other - one, self.other.batch - self.one.batch)
        plus = one - times * self.one.batch
        if rest or (times and abs(plus) > _LARGEST_CONSTANT):
            raise CannotFollow("a number depends on the batch, and not as a multiple of it")
        return times, plus

    def _both(self, one: Any, other: Any) -> Any:
        """Return what an argument of both runs is in the graph."""
        if isinstance(one, Slot):
            if one != other:
                raise CannotFollow("the model reads other tensors for another batch")
            return self._read(one)
        if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
            return [self._both(a, b) for a, b in zip(one, other, strict=True)]
        if isinstance(one, dict):
            return {name: self._both(value, other[name]) for name, value in one.items()}
        if type(one) is int and type(other) is int and one != other:
            return self._number(*self._linear(one, other))
        if one != other and not (one != one and other != other):  # nan is nan
            raise CannotFollow("a number depends on the batch")
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
                node = self.graph.call_function(torch.ops.aten.sym_size.int, (first, 0))
            elif plus:
                node = self.graph.call_function(operator.add, (self._number(times, 0), plus))
            else:
                node = self.graph.call_function(operator.mul, (self._number(1, 0), times))
            node.meta["val"] = Value((), torch.int64)
            self.batch[times, plus] = node
        return self.batch[times, plus]

    def _notes(self) -> tuple[str, ...]:
        still = [leaf for s in self.one.steps if not s.learns for leaf in pytree.tree_leaves((s.args, s.kwargs))]
        return frozen_reads(self.model, [s.key for s in still if isinstance(s, Slot) and s.kind == "tensor"])
