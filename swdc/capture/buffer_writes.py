"""What a model's forward writes into its buffers, and the nodes with which the program writes the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from swdc.capture.captured_graph import Captured
from swdc.ir.graph import DTYPE, SCOPE, SHAPE
from swdc.ops.arithmetic import sum_call
from swdc.ops.copies import cloned, detached, write_call


class BufferWrites:
    """The last value of each buffer that a model writes, on the way through the captured graph."""

    def __init__(self, captured: Captured, tensors: Mapping[str, torch.Tensor]) -> None:
        """``tensors`` are those of the model by name."""
        self._captured, self._tensors = captured, tensors
        self._last: dict[str, Any] = {}

    def lasting(self) -> list[fx.Node]:
        """Return the captured nodes that stand for buffers."""
        return [node for node in self._captured.graph.nodes if self.name_of(node) is not None]

    def name_of(self, node: fx.Node) -> str | None:
        """Return the name of the buffer of the model that a captured node stands for."""
        name = self._captured.tensors.get(node.name)
        tensor = None if name is None else self._tensors.get(name)
        return None if tensor is None or isinstance(tensor, nn.Parameter) else name

    def fetched(self, graph: fx.Graph, name: str) -> fx.Node | None:
        """Return a copy of a buffer that the model replaces, ``None`` for any other tensor.

        The program writes into the memory that the model only lets go, and gradients need the old values.
        """
        return cloned(graph.get_attr(name)) if name in self._captured.replaced else None

    def note(self, written: fx.Node, still: bool, old: Any, new: fx.Node) -> fx.Node:
        """Note that ``old``, the value of a captured node, is overwritten with ``new``.

        ``still`` says that the model does so with gradients switched off. Returns the value that later readers read.
        """
        name = self.name_of(written)
        names = [held for held, value in self._last.items() if value is old] + ([] if name is None else [name])
        if names and still:
            new = detached(new)
        self._last |= dict.fromkeys(names, new)
        return new

    def put_back(self, graph: fx.Graph, value_of: Callable[[Any], Any]) -> None:
        """Add the nodes that put into each buffer what the model leaves there for its next call.

        ``value_of`` returns the node for a captured node or for a value.
        """
        left = {**self._last, **self._captured.replaced}
        for name, value in left.items():
            self._described(write_call(graph, name, value_of(value)), name)
        for name, number in self._captured.counted.items():
            counted = self._described(sum_call(graph.get_attr(name), number), name)
            self._described(write_call(graph, name, counted), name)

    def _described(self, made: fx.Node, name: str) -> fx.Node:
        tensor = self._tensors[name]
        made.meta.update({SHAPE: tuple(tensor.shape), DTYPE: tensor.dtype, SCOPE: name.rpartition(".")[0]})
        return made
