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


def shapes_are_true(program: Program, inputs: Any, sizes: Mapping[str, int]) -> bool:
    """Whether every result has the shape that the graph gives it at some sizes of the symbols.

    A size of one can change the rank of a result, by a ``squeeze`` of all dimensions. All analysis goes by the graph.
    """
    comparison = _Comparison(program, sizes)
    with torch.no_grad(), buffers_kept(program):
        comparison.run(*pytree.tree_leaves(inputs), enable_io_processing=False)
    return comparison.agree


class _Comparison(fx.Interpreter):
    def __init__(self, program: Program, sizes: Mapping[str, int]) -> None:
        super().__init__(program.held, graph=program.graph)
        self.sizes, self.agree = sizes, True

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "output":
            self.agree = self.agree and self._fits(n.meta.get(SHAPE), result)
        return result

    def _fits(self, shape: Any, result: Any) -> bool:
        if isinstance(result, torch.Tensor):
            return shape is None or tuple(result.shape) == evaluate(shape, self.sizes)
        if isinstance(result, list | tuple) and shape is not None:
            return all(self._fits(part, each) for part, each in zip(shape, result, strict=False))
        return True
