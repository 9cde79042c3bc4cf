"""Noting every operator that a model calls, without computing values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch._export.utils import _compiling_state_context
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from swdc.captured import Value, user_line
from swdc.following.forms import Forms
from swdc.following.runs import CannotFollow, Run, Slot, Step
from swdc.program import tensors_of
from swdc.recurrence import results_of

_LIKE_THEIR_INPUT = frozenset(
    f"aten.{name}.default"
    for name in "batch_norm layer_norm group_norm relu relu_ relu6 relu6_ hardtanh hardtanh_ silu silu_ gelu hardswish "
    "hardswish_ hardsigmoid hardsigmoid_ sigmoid sigmoid_ tanh dropout dropout_".split()
)
"""Operators whose result has the form of what they read: there is no need to have torch find it out."""
_COUNTER = "num_batches_tracked"
"""Buffer of batch norms, those of a program too, that counts the batches of training."""
_MOST_CALLS = 50_000


def run(model: nn.Module, inputs: Any, batch: int, forms: Forms) -> Run:
    """Run a model on tensors without values that have the form of its inputs, but for the batch."""
    recorder = _Recorder(model, pytree.tree_leaves(inputs), batch, forms)
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


@dataclass
class _Found:
    """What there is among the arguments of a call: tensors at all, and tensors without values."""

    tensors: bool = False
    empty: bool = False


class _Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operator before it is taken apart, and runs it on the meta device."""

    def __init__(self, model: nn.Module, leaves: list[Any], batch: int, forms: Forms) -> None:
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)  # type: ignore[no-untyped-call]
        self._mode_key = torch._C._TorchDispatchModeKey.PROXY
        self.pre_dispatch = True
        self._forms = forms
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
        if isinstance(func, torch._ops.HigherOrderOperator) or len(self.steps) > _MOST_CALLS:
            raise CannotFollow(f"{func} is more than one operator")
        if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
            raise CannotFollow("autocast changes types")
        found = _Found()
        known, positional = self._told(list(args), found)
        named, keywords = self._told(kwargs or {}, found)
        if func._schema.is_mutable and isinstance(known[0], Slot):
            if known[0].kind == "constant":
                raise CannotFollow("the model overwrites a tensor that it does not own")
            if str(known[0].key).endswith(_COUNTER):
                return args[0]  # leaf modules count, too
        result = self._result(func, positional, keywords) if found.empty else func(*args, **(kwargs or {}))
        self._note(func, known, named, result, found.tensors)
        return result

    def _told(self, argument: Any, found: _Found) -> tuple[Any, Any]:
        """Return what an argument is in a step, and what the operator is given: tensors without values."""
        if isinstance(argument, torch.Tensor):
            found.tensors = True
            found.empty = found.empty or argument.device.type == "meta" or id(argument) in self._names
            return self.slot(argument), self._shadow(argument)
        if isinstance(argument, list | tuple):
            pairs = [self._told(item, found) for item in argument]
            return [known for known, _ in pairs], [given for _, given in pairs]
        if isinstance(argument, dict):
            told = {name: self._told(value, found) for name, value in argument.items()}
            return {name: known for name, (known, _) in told.items()}, {
                name: given for name, (_, given) in told.items()
            }
        if isinstance(argument, torch.device):
            return self._device if argument.type == "meta" else argument, torch.device("meta")
        return argument, argument

    def _result(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Return what an operator makes of tensors without values."""
        with torch._C._DisablePythonDispatcher():  # what torch has in C++ takes it a fiftieth of the time
            if str(func) in _LIKE_THEIR_INPUT and args[0].is_floating_point():
                return args[0] if func._schema.is_mutable else torch.empty_like(args[0])
            if func is torch.ops.aten.linear.default:
                return args[0].new_empty((*args[0].shape[:-1], *args[1].shape[:-1]))
            empty = results_of(func, args)
            return self._forms.call(func, args, kwargs) if empty is None else empty

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any, reads: bool) -> None:
        single = isinstance(result, torch.Tensor)
        results = [result] if single else list(result) if isinstance(result, list | tuple) else []
        if not any(isinstance(r, torch.Tensor) for r in results):
            return  # a number read from a constant
        for number, tensor in enumerate(results):
            if isinstance(tensor, torch.Tensor):
                slot = Slot("call", (len(self.steps), None if single else number))
                self._know(tensor, slot)
                if not reads:
                    self._fresh[tensor.untyped_storage()._cdata] = slot, (tensor.shape, tensor.stride())
        values = tuple(Value(tuple(t.shape), t.dtype) if isinstance(t, torch.Tensor) else None for t in results)
        scope = self.scopes[-1] if self.scopes else ("", "")
        line = user_line(sys._getframe(2), __file__)
        self.steps.append(Step(func, args, kwargs, values, single, scope, line, torch.is_grad_enabled()))

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
