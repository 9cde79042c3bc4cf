"""Insert a batch norm after every sum of feature maps."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import fx, nn

from swdc.analysis.residual import is_batchnorm, residual_sums, sums
from swdc.errors import PassError
from swdc.ir.graph import DTYPE, SCOPE, SHAPE, copy_graph, unused
from swdc.ir.input_check import cast_types
from swdc.ir.program import Program
from swdc.ops.norms_per_channel import BATCH_NORMS
from swdc.rewriting.pass_base import Pass, PassResult

_RANKS = (2, 4, 5)
"""The ranks of a sum whose channels are sure to lie along dimension 1; in a sequence it may be the positions."""


@dataclass(frozen=True)
class InsertBatchnorm(Pass):
    """Put a batch norm after every residual sum, before its activation (section 3.3 of Tessier et al. 2022).

    ::

        conv -> bn2 -> add -> relu           conv -> bn2 -> add -> inserted -> relu
        x ------------^                  x ------------^

    A residual sum adds two feature maps of equal shape ``(N, C, ...)``. In a chain of sums only the last gets a norm,
    and a sum that a batch norm already follows is left alone. In evaluation the new norm is the
    identity: mean 0, variance 1, and a gain of sqrt(1 + eps) that undoes its eps. The result holds the program's own
    parameters.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def apply(self, program: Program) -> PassResult:
        """Return the program with norms inserted, or the given one if it has no such sum."""
        open_sums = _open_sums(program)
        if not open_sums:
            return PassResult(program, modified=False)
        graph = copy_graph(program.graph)
        tensors, leaves = dict(program.tensors), dict(program.leaves)
        taken = {path for path, _ in program.named_modules()}
        for node in [n for n in graph.nodes if n.name in open_sums]:
            path = _free_path(node, taken)
            taken.add(path)
            leaves[path] = self._norm(node, program)
            tensors |= {f"{path}.{name}": t for name, t in _own_tensors(leaves[path]).items()}
            with graph.inserting_after(node):
                norm = graph.call_module(path, (node,))
            norm.meta = copy.copy(node.meta)
            node.replace_all_uses_with(norm, delete_user_cb=lambda user, norm=norm: user is not norm)
        return PassResult(program.rebuilt(graph=graph, tensors=tensors, leaves=leaves), modified=True)

    def ensures(self, program: Program) -> None:
        """Check that no sum is left without a batch norm."""
        left = _open_sums(program)
        if left:
            raise PassError(f"expected a batch norm after every sum, {left} have none")

    def _norm(self, node: fx.Node, program: Program) -> nn.Module:
        """Return a norm in the type of the sum, or in that of weights that were cast after the trace."""
        shape, dtype = node.meta[SHAPE], node.meta[DTYPE]
        device = next((t.device for t in program.parameters()), None)
        norm = BATCH_NORMS[len(shape)](
            int(shape[1]),
            eps=self.eps,
            momentum=self.momentum,
            device=device,
            dtype=cast_types(program).get(dtype, dtype),
        )
        with torch.no_grad():
            norm.weight.fill_((1 + self.eps) ** 0.5)  # type: ignore[operator]
        return norm.train(program.training)


def _own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _open_sums(program: Program) -> list[str]:
    """Return the names of the residual sums with a reader that is neither a batch norm nor a further sum."""
    closed = {n for n in program.graph.nodes if is_batchnorm(n, program)}.union(sums(program))
    found = residual_sums(program)
    return [node.name for node in found if _can_be_normalised(node) and not closed.issuperset(node.users)]


def _can_be_normalised(node: fx.Node) -> bool:
    dtype = node.meta.get(DTYPE)
    return len(node.meta[SHAPE]) in _RANKS and isinstance(dtype, torch.dtype) and dtype.is_floating_point


def _free_path(node: fx.Node, taken: set[str]) -> str:
    scope = node.meta.get(SCOPE) or ""
    base = f"{scope}.sum_batchnorm" if scope else "sum_batchnorm"
    return unused(base, taken)
