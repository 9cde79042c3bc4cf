"""Delete the channels that a plan removes: the tensors shrink, and with them every literal size in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from swdc.arranging import arranged
from swdc.call import Call, Ref
from swdc.contract import Pass, PassResult
from swdc.count import totals
from swdc.errors import PassError
from swdc.kept import Kept
from swdc.ops import Operator
from swdc.plan import Plan
from swdc.program import SHAPE, Origin, Program
from swdc.sizes import Shape
from swdc.surgery import rebuild


@dataclass(frozen=True)
class EliminateDeadChannels(Pass):
    """Cut dead channels out of tensors, modules and sizes; tensors that the graph does not read go as a whole.

    With half of the channels of ``conv1`` removed::

        x -> conv1(3, 64) -> bn1(64) -> view[N, 64 * 49] -> fc(3136, 10)
        x -> conv1(3, 32) -> bn1(32) -> view[N, 32 * 49] -> fc(1568, 10)
    """

    plan: Plan
    after = ("fold-constant-channels",)

    def apply(self, program: Program) -> PassResult:
        """Return the slim program; it shares no tensor with the given one."""
        coupling = program.coupling
        stays = coupling.keep(self.plan.kept)
        kept = Kept(coupling, stays, arranged(program, coupling, stays))

        def change(call: Call, operator: Operator) -> Mapping[str, Any]:
            return operator.resize(call, kept)

        def reshape(node: fx.Node) -> Shape:
            shape: Any = node.meta.get(SHAPE)
            if not shape or node.op in ("get_attr", "output"):
                return shape if shape is not None else ()
            if isinstance(shape[0], tuple):
                return kept.outputs(node, shape)
            return kept.resized(node, shape)

        slim = rebuild(program, self._cut(program, kept), change, reshape, program.transient)
        origin = program.facts.origin
        before = totals(program) if origin is None else origin.before
        folded = {} if origin is None else origin.folded
        slim.with_origin(
            Origin(self.plan, before, folded={name: _cut_tensor(t, name, kept) for name, t in folded.items()})
        )
        return PassResult(slim, modified=self.plan.removed_channels > 0)

    def _cut(self, program: Program, kept: Kept) -> dict[str, torch.Tensor]:
        tensors = program.tensors
        read = {id(tensors[name]) for name in program.read_tensors()}  # a tied tensor keeps all its names
        done: dict[int, torch.Tensor] = {}
        cut: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            if id(tensor) not in read:
                continue
            if id(tensor) not in done:
                done[id(tensor)] = _cut_tensor(tensor, name, kept)
            cut[name] = done[id(tensor)]
        empty = [name for name, tensor in cut.items() if tensors[name].numel() and not tensor.numel()]
        if empty:
            raise PassError(f"expected a plan that leaves something of every tensor, got one that empties {empty[:3]}")
        return cut


def _cut_tensor(tensor: torch.Tensor, name: str, kept: Kept) -> torch.Tensor:
    data = tensor.detach()
    for dim in range(tensor.dim()):
        indices = kept.indices(Ref(name), dim)
        if indices is not None and not np.array_equal(indices, np.arange(tensor.shape[dim])):
            data = data.index_select(dim, torch.from_numpy(indices).to(tensor.device))
    if data.data_ptr() == tensor.data_ptr():
        data = data.clone()
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
