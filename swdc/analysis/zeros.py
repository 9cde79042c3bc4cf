"""Which values are zero if some calls return zeros, in a program whose weights have no values.

What reads a zero is run with it, at the sizes of the example. What else it reads gets random numbers, because nothing
is known of it: a result that is zero all the same is zero for a reason that lies in the zeros alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.module_tensors import modes_kept, tensors_of
from swdc.ir.program import Program
from swdc.ops.base import shapes_of
from swdc.ops.creation import asked_size, computes_sizes

_LARGEST = 2**24
"""Tensors with more elements are not drawn; what reads them is taken for not zero."""


class _UnknownError(Exception):
    """A call reads something that cannot be drawn."""


def zeros_after(program: Program, writers: Collection[fx.Node]) -> set[fx.Node]:
    """Return the values that are zero in evaluation if ``writers`` return zeros, the writers among them."""
    trial = _Trial(program, frozenset(writers))
    with torch.no_grad(), modes_kept(program), torch.random.fork_rng(devices=[]):
        program.eval()
        for node in program.graph.nodes:
            trial.look(node)
    return set(trial.zeros)


class _Trial:
    def __init__(self, program: Program, writers: frozenset[fx.Node]) -> None:
        self._program, self._writers = program, writers
        self._shape_of = shapes_of(program, program.facts.symbols)
        self._draw = torch.Generator().manual_seed(0)
        self.zeros: dict[fx.Node, torch.Tensor] = {}

    def look(self, node: fx.Node) -> None:
        """Note a value if it is zero."""
        if node in self._writers:
            if self._is_drawn(node):
                self.zeros[node] = torch.zeros(self._shape_of(node), dtype=node.meta[DTYPE])
            return
        if node.op not in ("call_function", "call_module") or self.zeros.keys().isdisjoint(node.all_input_nodes):
            return
        try:
            result = self._run(node)
        except (_UnknownError, RuntimeError, ValueError, IndexError, TypeError):  # random numbers, or other devices
            return
        if isinstance(result, torch.Tensor) and not result.is_meta and not bool(result.any()):
            self.zeros[node] = result

    def _run(self, node: fx.Node) -> Any:
        args, kwargs = map_arg(node.args, self._value), map_arg(node.kwargs, self._value)
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        module: nn.Module = self._program.get_submodule(str(node.target))
        tensors = {name: self._drawn_like(tensor) for name, tensor in tensors_of(module).items()}
        return torch.func.functional_call(module, tensors, args, kwargs)

    def _value(self, node: fx.Node) -> Any:
        if node in self.zeros:
            return self.zeros[node].clone()
        if computes_sizes(node):
            return self._number(node)
        if node.op == "get_attr":
            return self._drawn_like(self._program.tensors[str(node.target)])
        if not self._is_drawn(node):
            raise _UnknownError
        return torch.randn(self._shape_of(node), generator=self._draw).to(node.meta[DTYPE])

    def _number(self, node: fx.Node) -> Any:
        asked = asked_size(node)
        if asked is not None:
            return self._shape_of(asked[0])[asked[1]]
        return node.target(*map_arg(node.args, self._number), **map_arg(node.kwargs, self._number))  # type: ignore[operator]

    def _is_drawn(self, node: fx.Node) -> bool:
        """Whether a value is one tensor of numbers that may be anything, and is not too large."""
        shape, dtype = node.meta.get(SHAPE), node.meta.get(DTYPE)
        if shape is None or not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            return False
        if any(isinstance(size, tuple) for size in shape):
            return False
        return torch.Size(self._shape_of(node)).numel() <= _LARGEST

    def _drawn_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor with its values if it has some; otherwise with positive ones, as variances are."""
        if not tensor.is_meta:
            return tensor.detach().cpu()
        if not tensor.is_floating_point() or tensor.numel() > _LARGEST:
            raise _UnknownError
        return (torch.rand(tensor.shape, generator=self._draw) + 0.5).to(tensor.dtype)
