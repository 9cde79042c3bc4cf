"""Sizes that no input shows, such as the number of edges left after filtering: found by one run on the example."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.capture.restore import buffers_kept
from swdc.ir.graph import SHAPE
from swdc.ir.module_tensors import is_meta
from swdc.ir.program import Program

UNSEEN = -1
"""Stands for the value of a symbol until it is measured."""


class _Measure(fx.Interpreter):
    """Runs a program and notes the values of symbolic sizes that no input shows."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.held, graph=program.graph)
        self.symbols = dict(program.facts.symbols)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and take the values of symbols from the shape of its result."""
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            for size, actual in zip(n.meta.get(SHAPE) or (), result.shape, strict=False):
                if self.symbols.get(str(size)) == UNSEEN:
                    self.symbols[str(size)] = int(actual)
        return result


def measured(program: Program) -> dict[str, int]:
    """Return the value of every symbol in the example, including symbols that depend on the data."""
    symbols = dict(program.facts.symbols)
    if UNSEEN not in symbols.values():
        return symbols
    if is_meta(program):  # nothing can be measured without values
        return {name: 1 if value == UNSEEN else value for name, value in symbols.items()}
    run = _Measure(program)
    with torch.no_grad(), buffers_kept(program):
        run.run(*pytree.tree_leaves(program.facts.example), enable_io_processing=False)
    return {name: 1 if value == UNSEEN else value for name, value in run.symbols.items()}
