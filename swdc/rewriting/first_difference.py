"""The first node at which two programs differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.channels.kept import Kept
from swdc.ir.call import source_of
from swdc.ir.differences import relative_error
from swdc.ir.program import Program
from swdc.rewriting.certificate import TOLERANCE, Comparison
from swdc.rewriting.runs import copy_in, inputs_in


class _Values(fx.Interpreter):
    """Keeps the value of every node."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.held, graph=program.graph)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


def first_difference(masked: Program, slim: Program, run: Comparison, seed: int, inputs: Any) -> str | None:
    """Return the first node at which the kept channels of both programs differ in a run, with its source."""
    plan = masked.facts.origin.plan  # type: ignore[union-attr]
    kept = Kept(masked.coupling, masked.coupling.keep(plan.kept))
    runs = []
    for program in (masked, slim):
        copy = copy_in(program, torch.float64).train(run.mode == "train")
        args, kwargs = inputs_in(copy, run.batch, seed, torch.float64, inputs)
        values = _Values(copy)
        with torch.no_grad():
            values.run(*pytree.tree_leaves((args, kwargs)), enable_io_processing=False)
        runs.append(values.values)
    for node in masked.graph.nodes:
        one, other = (values.get(node.name) for values in runs)
        if node.op == "get_attr" or not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue
        for dim in range(one.dim()):
            mask = kept.mask(node, dim)
            if mask is not None:
                one = one.index_select(dim, torch.from_numpy(mask.nonzero()[0]))
        if relative_error(one.double(), other.double()) > TOLERANCE:
            source = source_of(node)
            return f"{node.name} ({node.target})" + (f" at {source}" if source else "")
    return None
