"""Runs a model on tensors without values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import is_autocast_enabled, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._export.utils import _compiling_state_context
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

from swdc.capture.as_if_real import AsIfReal
from swdc.capture.captured_graph import unfused
from swdc.capture.meta_cache import Forms
from swdc.capture.recorder import MOST_CALLS, Recorder
from swdc.capture.runs import Run, Slot
from swdc.capture.way import CannotCapture
from swdc.ops.in_place import operator_of

Sizes = Sequence[tuple[int, ...] | None]
"""The shape of each input; ``None`` for one that is no tensor."""


def with_batch_of(leaves: Sequence[Any], batch: int) -> Sizes:
    """Return the shapes of inputs with another batch."""
    return [(batch, *x.shape[1:])[: x.dim()] if isinstance(x, torch.Tensor) else None for x in leaves]


def run(
    model: nn.Module, inputs: Any, sizes: Sizes, forms: Forms, most: int = MOST_CALLS, compiling: bool = True
) -> Run:
    """Run a model on tensors without values, which have the types of its inputs and other sizes.

    ``compiling`` says whether ``torch.compiler.is_compiling()`` is true in the model's code.

    Raises ``CannotCapture`` if the model calls more than ``most`` operators, and whatever the model raises.
    """
    leaves, structure = pytree.tree_flatten(inputs)
    with as_export_does(compiling):
        batch = next((size[0] for size in sizes if size), 0)
        return OnShapes(model, leaves, list(map(empty, leaves, sizes)), forms, most).run(model, structure, batch)


@contextmanager
def as_export_does(compiling: bool = True) -> Iterator[None]:
    """Tell libraries that a model is being captured; switch fused paths off; restore the random state at the end.

    Without ``compiling``, libraries are told nothing.
    """
    with ExitStack() as stack:
        stack.enter_context(unfused())
        stack.enter_context(_masks_as_given())
        stack.enter_context(_compiling_state_context() if compiling else nullcontext())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(enable_python_dispatcher())
        yield


@contextmanager
def _masks_as_given() -> Iterator[None]:
    """Keep torch.nn from looking whether a mask is causal: that changes by which kernel attention is computed only."""
    looks = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = looks


def empty(leaf: Any, size: Sequence[Any] | None) -> Any:
    """Return a tensor without values in place of an input; what is no tensor stays."""
    return torch.empty(size, dtype=leaf.dtype, device="meta") if size is not None else leaf


class OnShapes(Recorder):  # type: ignore[no-untyped-call]
    """Runs every operator on the meta device, except for those that read only constants.

    ``leaves`` are the inputs of the example, and ``inputs`` those of the run.
    """

    def __init__(self, model: nn.Module, leaves: list[Any], inputs: list[Any], forms: Forms, most: int) -> None:
        self._alive: list[torch.Tensor] = []
        super().__init__(model, inputs, most)
        self._forms = forms
        self._device = next((t.device for t in leaves if isinstance(t, torch.Tensor)), torch.device("cpu"))
        self._memory = {t.untyped_storage()._cdata for t in self._owned}
        self._fresh: dict[int, tuple[Slot, Any]] = {}
        self._shadows: dict[int, torch.Tensor] = {}
        self._laid_out: set[Slot] = set()

    def run(self, model: nn.Module, structure: pytree.TreeSpec, batch: int) -> Run:
        """Run a model, whose code sees the device of the example."""
        with AsIfReal(self._device):
            return super().run(model, structure, batch)

    def _check_modes(self) -> None:
        if is_autocast_enabled("cpu") or is_autocast_enabled("cuda"):
            raise CannotCapture("autocast changes types")

    def _know(self, tensor: torch.Tensor, slot: Slot) -> None:
        self._slots[id(tensor)] = slot
        self._alive.append(tensor)

    def _made(self, tensor: torch.Tensor, slot: Slot) -> None:
        self._fresh[tensor.untyped_storage()._cdata] = slot, (tensor.shape, tensor.stride())

    def _stranger(self, tensor: torch.Tensor) -> Slot:
        memory = tensor.untyped_storage()._cdata
        if memory in self._fresh and self._fresh[memory][1] == (tensor.shape, tensor.stride()):
            self._know(tensor, self._fresh[memory][0])  # torch hands out another tensor object than the one it made
            return self._fresh[memory][0]
        if tensor.is_meta and tensor.shape == (0,):  # an empty vector has all its values
            self._know(tensor, self._constant(torch.empty(0, dtype=tensor.dtype, device=self._device)))
            return self._slots[id(tensor)]
        if tensor.is_meta or memory in self._memory:
            raise CannotCapture("a tensor was made by code that bypasses the dispatcher")
        return self._constant(tensor)

    def _check_memory(self, func: Any, known: list[Any]) -> None:
        first = known[0] if known and isinstance(known[0], Slot) else None
        if func._schema.is_mutable and first is not None and first.kind == "constant":
            raise CannotCapture("the model overwrites a tensor that it does not own")
        if first in self._laid_out and (func._schema.is_mutable or operator_of(func).layout == "read"):
            raise CannotCapture("the result of the model depends on how a tensor lies in memory")

    def _is_passed_over(self, func: Any, args: Any, known: list[Any], result: Any) -> bool:
        """Skip copies into another memory layout, because some models make them in large batches only."""
        if operator_of(func).layout != "given":
            return False
        self._know(result, known[0])
        self._laid_out.add(known[0])
        return True

    def _lacks_values(self, tensor: torch.Tensor) -> bool:
        return tensor.is_meta or id(tensor) in self._names

    def _given(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta and id(tensor) not in self._names:
            return tensor
        if id(tensor) not in self._shadows:
            made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
            self._shadows[id(tensor)] = made
        return self._shadows[id(tensor)]

    def _literal(self, argument: Any) -> tuple[Any, Any]:
        """Note the device of the example instead of the meta device, but run on the meta device."""
        if not isinstance(argument, torch.device):
            return argument, argument
        return self._device if argument.type == "meta" else argument, torch.device("meta")

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        with torch._C._DisablePythonDispatcher():  # torch's C++ kernels take a fiftieth of the time
            empty = operator_of(func).empty_result(func, args)
            return self._forms.call(func, args, kwargs) if empty is None else empty
