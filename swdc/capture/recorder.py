"""Notes every operator that a model calls, before torch decomposes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from swdc.capture.batch_counters import BatchCounters
from swdc.capture.captured_graph import Value, user_line
from swdc.capture.empty_vectors import without_empty_vectors
from swdc.capture.out_arguments import elements, without_out
from swdc.capture.runs import Run, Slot, Step
from swdc.capture.way import CannotCapture
from swdc.ir.module_tensors import tensors_of
from swdc.ops.copies import COPY_INTO
from swdc.ops.in_place import operator_of

MOST_CALLS = 50_000
"""More calls than any network makes, unless it loops where one operator would do."""


@dataclass
class Found:
    """Whether the arguments of a call hold any tensors, and whether any of these lack values."""

    tensors: bool = False
    empty: bool = False


class Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operator that runs while it is active.

    Subclasses choose the inputs, the tensors that an operator is given, and how its result is computed.
    """

    def __init__(self, model: nn.Module, inputs: list[Any], most: int = MOST_CALLS) -> None:
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)  # type: ignore[no-untyped-call]
        self._mode_key = torch._C._TorchDispatchModeKey.PROXY
        self.pre_dispatch = True
        self.steps: list[Step] = []
        self.constants: dict[str, torch.Tensor] = {}
        self.scopes: list[tuple[str, str]] = []
        self._before = tensors = tensors_of(model)
        self._places = {name: tensor.untyped_storage()._cdata for name, tensor in tensors.items()}
        self._names = {id(t): name for name, t in reversed(tensors.items())}
        self._slots: dict[int, Slot] = {}
        self._owned = list(tensors.values())
        self.inputs, self.most, self.counted = inputs, most, BatchCounters()
        self._below = self.failed = False
        for number, leaf in enumerate(inputs):
            if isinstance(leaf, torch.Tensor):
                self._know(leaf, Slot("input", number))

    def __enter__(self) -> Any:
        return TorchDispatchMode.__enter__(self)  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> Any:
        return TorchDispatchMode.__exit__(self, *error)  # type: ignore[no-untyped-call]

    def run(self, model: nn.Module, structure: pytree.TreeSpec, batch: int) -> Run:
        """Run a model on the inputs, which have the given structure, and return what it did."""
        positional, keywords = pytree.tree_unflatten(self.inputs, structure)
        with self._listening(model), self:
            result = model(*positional, **keywords)
        replaced, dropped = self._replacements(model)
        leaves, structure = pytree.tree_flatten(result)
        outputs = [self.slot(leaf) if isinstance(leaf, torch.Tensor) else self._literal(leaf)[0] for leaf in leaves]
        return Run(batch, self.steps, outputs, structure, self.constants, replaced, dropped, self.failed, self.counted)

    def _replacements(self, model: nn.Module) -> tuple[dict[str, Slot], tuple[str, ...]]:
        """Return the buffers for which the model has put other tensors of their form, each with where that comes from.

        Also return the buffers for which it has put tensors of another form, or other ``data``.
        """
        now = tensors_of(model)
        moved = [n for n, old in self._before.items() if old.untyped_storage()._cdata != self._places[n]]
        new = {n: now[n] for n, old in self._before.items() if n in now and now[n] is not old}
        new = {n: t for n, t in new.items() if self._given(self._before[n]) is not t}  # changed in place
        alike = [n for n, t in new.items() if (t.shape, t.dtype) == (self._before[n].shape, self._before[n].dtype)]
        return {name: self.slot(new[name]) for name in alike}, (*moved, *(n for n in new if n not in alike))

    @contextmanager
    def _listening(self, model: nn.Module) -> Iterator[None]:
        """Keep track of the module whose code runs."""
        handles: list[Any] = []
        for path, module in model.named_modules():
            scope = (path, f"{type(module).__module__}.{type(module).__qualname__}")
            handles.append(module.register_forward_pre_hook(lambda *_, scope=scope: self.scopes.append(scope)))
            handles.append(module.register_forward_hook(lambda *_, scope=scope: self._leave(scope)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self, scope: tuple[str, str]) -> None:
        """Leave a module, and all that failed inside it: the model's code may have caught the error."""
        if scope in self.scopes:
            del self.scopes[self.scopes.index(scope) :]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._functorch.peek_interpreter_stack() is not None and not self._below:
            return self._without_transform(func, args, kwargs)
        if isinstance(func, torch._ops.HigherOrderOperator):
            raise CannotCapture(f"{func} is more than one operator")
        if len(self.steps) > self.most:
            raise CannotCapture(f"the model calls more than {self.most} operators")
        self._check_modes()
        plain = without_out(func)
        if plain is not None:
            return self._written_out(plain, args, dict(kwargs))
        found = Found()
        known, positional = self._told(without_empty_vectors(func, args), found)
        named, keywords = self._told(kwargs, found)
        if self.counted.note(func, known, args, self.scopes):
            return args[0]
        self._check_memory(func, known)
        before = elements(args[0]) if func._schema.is_mutable and args else None
        try:
            result = self._computed(func, positional, keywords) if found.empty else func(*args, **kwargs)
        except Exception:  # of an operator; it goes on to the model's code, which may catch it
            self.failed = True
            raise
        if before is not None and elements(result) != before:
            raise CannotCapture("the model gives a tensor another shape in place")
        if not self._is_passed_over(func, args, known, result):
            self._note(func, known, named, result, found.tensors)
        return result

    def _written_out(self, plain: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Note a call that writes its result into a given tensor as a call that returns it, and a copy."""
        target = kwargs.pop("out")
        result = self.__torch_dispatch__(plain, (), args, kwargs)
        if result.shape != target.shape:
            raise CannotCapture(f"{plain} gives the tensor for its result another shape")
        return self.__torch_dispatch__(COPY_INTO, (), (target, result))

    def _without_transform(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Let ``torch.vmap`` turn a call into calls on whole batches, and note these."""
        with _Below(self):
            return func(*args, **kwargs)

    def below(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Note a call that a transform of functorch makes."""
        self._below = True
        try:
            return self.__torch_dispatch__(func, (), args, kwargs)
        finally:
            self._below = False

    def _told(self, argument: Any, found: Found) -> tuple[Any, Any]:
        """Return an argument as it is noted in a step, and as it is given to the operator."""
        if isinstance(argument, torch.Tensor):
            found.tensors = True
            found.empty = found.empty or self._lacks_values(argument)
            return self.slot(argument), self._given(argument)
        if isinstance(argument, list | tuple):
            pairs = [self._told(item, found) for item in argument]
            return [known for known, _ in pairs], [given for _, given in pairs]
        if isinstance(argument, dict):
            known, given = self._told(list(argument.values()), found)
            return dict(zip(argument, known, strict=True)), dict(zip(argument, given, strict=True))
        return self._literal(argument)

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any, reads: bool) -> None:
        single = not isinstance(result, list | tuple)
        results = [result] if single else list(result)
        returns = any(isinstance(r, torch.Tensor) for r in results) or operator_of(func).asserts
        if not returns and not self._keeps_numbers(reads):
            return
        for number, tensor in enumerate(results):
            if isinstance(tensor, torch.Tensor):
                slot = Slot("call", (len(self.steps), None if single else number))
                self._know(tensor, slot)
                if not reads or operator_of(func).creates:
                    self._made(tensor, slot)
        values = tuple(Value(self._shape(t), t.dtype) if isinstance(t, torch.Tensor) else None for t in results)
        scope = self.scopes[-1] if self.scopes else ("", "")
        line = user_line(_caller(), __file__)
        self.steps.append(Step(func, args, kwargs, values, single, scope, line, torch.is_grad_enabled()))

    def slot(self, tensor: torch.Tensor) -> Slot:
        """Return where a tensor comes from; an unknown tensor is a constant, unless a subclass knows better."""
        if id(tensor) in self._slots:
            return self._slots[id(tensor)]
        if id(tensor) in self._names:
            return Slot("tensor", self._names[id(tensor)])
        return self._stranger(tensor)

    def _constant(self, tensor: torch.Tensor) -> Slot:
        name = f"constants.{len(self.constants)}"
        self.constants[name] = tensor.detach().clone()
        self._know(tensor, Slot("constant", name))
        return self._slots[id(tensor)]

    # -- for subclasses -----------------------------------------------------------------------------------------

    def _know(self, tensor: torch.Tensor, slot: Slot) -> None:
        """Remember where a tensor comes from, as long as it lives."""
        raise TypeError(f"{type(self).__name__} has to say how long tensors are known")

    def _stranger(self, tensor: torch.Tensor) -> Slot:
        """Return where a tensor comes from that is neither known nor owned by the model."""
        return self._constant(tensor)

    def _made(self, tensor: torch.Tensor, slot: Slot) -> None:
        """Note a tensor whose memory an operator made."""

    def _check_modes(self) -> None:
        """Raise ``CannotCapture`` if a mode of torch changes what operators do."""

    def _check_memory(self, func: Any, known: list[Any]) -> None:
        """Raise ``CannotCapture`` if what an operator does to the memory of its first argument cannot be captured."""

    def _is_passed_over(self, func: Any, args: Any, known: list[Any], result: Any) -> bool:
        """Whether a call has no effect and need not be noted."""
        return False

    def _lacks_values(self, tensor: torch.Tensor) -> bool:
        return True

    def _given(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor that an operator is given in place of a tensor."""
        return tensor

    def _literal(self, argument: Any) -> tuple[Any, Any]:
        """Return a literal as it is noted in a step, and as it is given to the operator."""
        return argument, argument

    def _shape(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        """Return the shape of a tensor as it is noted in a step."""
        return tuple(tensor.shape)

    def _keeps_numbers(self, reads: bool) -> bool:
        """Whether to note calls that return no tensors; ``reads`` says that the call reads one."""
        return False

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Return the result of an operator."""
        return func(*args, **kwargs)


def _caller() -> FrameType | None:
    """Return the frame that called an operator."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


class _Below(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands the calls that transforms make to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._recorder.below(func, args, kwargs or {})
