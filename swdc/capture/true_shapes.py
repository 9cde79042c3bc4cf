"""Whether the results in a program have the shapes that its graph says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.capture.restore import buffers_kept
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.ops.base import calls


def shapes_are_true(program: Program, inputs: Any, sizes: Mapping[str, int]) -> bool:
    """Whether every result has the shape that the graph gives it at some sizes of the symbols.

    A size of one can change the rank of a result, by a ``squeeze`` of all dimensions. All analysis goes by the graph.
    What the program only returns, or a function of each of its elements, may lack dimensions of one: nothing else reads
    it.
    """
    comparison = _Comparison(program, sizes)
    with torch.no_grad(), buffers_kept(program):
        comparison.run(*pytree.tree_leaves(inputs), enable_io_processing=False)
    return comparison.agree


class _Comparison(fx.Interpreter):
    def __init__(self, program: Program, sizes: Mapping[str, int]) -> None:
        super().__init__(program.held, graph=program.graph)
        self.sizes, self.calls, self.agree = sizes, calls(program), True

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            self.agree = self.agree and (self._fits(n.meta.get(SHAPE), result) or self._is_squeezed(n, result))
        return result

    def _is_squeezed(self, node: fx.Node, result: Any) -> bool:
        """Whether a result is only returned, and lacks no more than dimensions of one."""
        if not isinstance(result, torch.Tensor) or not self._is_only_returned(node):
            return False
        told = evaluate(node.meta[SHAPE], self.sizes)
        return [size for size in told if size != 1] == [size for size in result.shape if size != 1]

    def _is_only_returned(self, node: fx.Node) -> bool:
        """Whether all that reads a result returns it, or a function of each of its elements."""
        return all(user.op == "output" or self._is_of_elements(user) for user in node.users)

    def _is_of_elements(self, node: fx.Node) -> bool:
        if node not in self.calls:
            return False
        operator, call = self.calls[node]
        return operator.by_element and len(call.tensors()) == 1 and self._is_only_returned(node)

    def _fits(self, shape: Any, result: Any) -> bool:
        if isinstance(result, torch.Tensor):
            return shape is None or tuple(result.shape) == evaluate(shape, self.sizes)
        if isinstance(result, list | tuple) and shape is not None:
            return all(self._fits(part, each) for part, each in zip(shape, result, strict=False))
        return True
