"""The first node at which two programs differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.ir.call import source_of
from swdc.ir.dtypes_and_devices import default_dtype
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.rewriting.cases import TRAIN, Case
from swdc.rewriting.certificate import TOLERANCE
from swdc.rewriting.cutting import kept_by_plan
from swdc.rewriting.rounding import largest, wide_errors
from swdc.rewriting.runs import WIDE, OwnTypesIfRefused, copy_in, floats_in


class _Values(OwnTypesIfRefused):
    """Keeps the value of every node."""

    def __init__(self, program: Program) -> None:
        super().__init__(program, WIDE)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


def first_difference(masked: Program, slim: Program, case: Case, seed: int) -> str | None:
    """Return the first node at which the kept channels of both programs differ in float64, with its source."""
    kept = kept_by_plan(masked)
    runs = []
    for program in (masked, slim):
        copy = copy_in(program, WIDE).train(case.mode == TRAIN)
        values = _Values(copy)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), default_dtype(WIDE):
            seed_all(seed)
            values.run(*pytree.tree_leaves(floats_in(case.inputs, WIDE)), enable_io_processing=False)
        runs.append(values.values)
    for node in masked.graph.nodes:
        one, other = (values.get(node.name) for values in runs)
        if node.op == "get_attr" or not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue
        for dim in range(one.dim()):
            indices = kept.indices(node, dim)
            if indices is not None:
                one = one.index_select(dim, torch.from_numpy(indices).to(one.device))
        if largest(wide_errors([one], [other])) > TOLERANCE:
            source = source_of(node)
            return f"{node.name} ({node.target})" + (f" at {source}" if source else "")
    return None
