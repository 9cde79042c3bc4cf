"""Capture by recording: the model runs once on the real inputs, and every operator that it calls is noted."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch.utils import _pytree as pytree

from swdc.capture.captured_graph import Captured, check_cast, dropped_buffers, without_gradients
from swdc.capture.graph_of_runs import Joining, named_leaves
from swdc.capture.read_values import WholeReads, check_reads
from swdc.capture.recorder import Recorder
from swdc.capture.restore import buffers_kept
from swdc.capture.runs import Slot
from swdc.capture.way import CannotCapture, Subject, Way
from swdc.errors import TraceError
from swdc.ops.read_values import read_by

NOTE = (
    "recorded on the example inputs, because the model's code depends on their values: the program is valid for these "
    "inputs only; train the model itself, which has the same parameters, and slim it with swdc.transplant"
)


class Record(Way):
    """Records what a model does with the inputs; every size and every Python number is fixed.

    Tensors of the model are recognised by identity. The model, its buffers and the inputs stay as they are.
    """

    name = "record"
    example_only = True

    def capture(self, subject: Subject) -> Captured:
        """Return the graph; raise ``TraceError`` for torch's control-flow operators, and if autocast changes types."""
        model, inputs = subject.model, subject.inputs
        leaves, structure = pytree.tree_flatten(inputs)
        given = [leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        with buffers_kept(model), without_gradients(), enable_python_dispatcher():
            recorder = OnValues(model, given)
            try:
                with WholeReads():
                    ran = recorder.run(model, structure, batch=0)
            except CannotCapture as reason:
                raise TraceError(f"expected a plain graph, but {reason}; write it with ordinary operators") from reason
        joining = Joining(model, named_leaves(model, inputs), ran, ran)
        captured = joining.captured(structure)
        check_reads(joining.made, recorder.read)
        return replace(captured, notes=(NOTE, *dropped_buffers(ran.dropped)))


class OnValues(Recorder):  # type: ignore[no-untyped-call]
    """Runs every operator on real values; a tensor is known as long as it is alive."""

    def __init__(self, model: nn.Module, inputs: list[Any]) -> None:
        self._watched: dict[int, Any] = {}
        self.read: dict[int, Any] = {}  # what code read, by the number of the step that gave it
        super().__init__(model, inputs)

    def _know(self, tensor: torch.Tensor, slot: Slot) -> None:
        key = id(tensor)
        self._slots[key] = slot
        if key not in self._watched:
            self._watched[key] = weakref.ref(tensor, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        self._slots.pop(key, None)
        self._watched.pop(key, None)

    def _keeps_numbers(self, reads: bool) -> bool:
        return reads  # the model may branch on them

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        with torch._C._DisablePythonDispatcher():
            result = func(*args, **kwargs)
        read = read_by(func, args, result)
        if read is not None:
            self.read[len(self.steps)] = read
        device = next((d for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)), None)
        if device is not None:
            check_cast(func, f"step {len(self.steps)}", pytree.tree_leaves((args, kwargs, result)), device)
        return result
