"""Insert a batch norm after every sum of feature maps."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from swdc.errors import PassError
from swdc.ir.graph import DTYPE, SCOPE, SHAPE, copy_graph, unused
from swdc.ir.program import Program
from swdc.rewriting.contract import Pass, PassResult

_SUMS = ("aten.add.Tensor",)
_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@dataclass(frozen=True)
class InsertBatchnorm(Pass):
    """Put a batch norm after every residual sum, before its activation (section 3.3 of Tessier et al. 2022).

    ::

        conv -> bn2 -> add -> relu           conv -> bn2 -> add -> inserted -> relu
        x ------------^                  x ------------^

    A sum is taken for one where two feature maps of equal shape ``(N, C, ...)`` are added; in a chain of sums the
    last one counts, and a sum that a batch norm follows already is left alone. In evaluation the new norm is the
    identity: mean 0, variance 1, and a gain of sqrt(1 + eps) that undoes its eps. The result holds the program's own
    parameters.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def apply(self, program: Program) -> PassResult:
        """Return the program with norms inserted, or the given one where it has no such sum."""
        if not any(_is_open_sum(n, program) for n in program.graph.nodes):
            return PassResult(program, modified=False)
        graph = copy_graph(program.graph)
        tensors, leaves = dict(program.tensors), dict(program.leaves)
        taken = {path for path, _ in program.named_modules()}
        for node in list(graph.nodes):
            if not _is_open_sum(node, program):
                continue
            path = _free_path(node, taken)
            taken.add(path)
            leaves[path] = self._norm(int(node.meta[SHAPE][1]), len(node.meta[SHAPE]), program)
            tensors |= {f"{path}.{name}": t for name, t in _own_tensors(leaves[path]).items()}
            with graph.inserting_after(node):
                norm = graph.call_module(path, (node,))
            norm.meta = copy.copy(node.meta)
            node.replace_all_uses_with(norm, delete_user_cb=lambda user, norm=norm: user is not norm)
        return PassResult(program.rebuilt(graph=graph, tensors=tensors, leaves=leaves), modified=True)

    def ensures(self, program: Program) -> None:
        """No sum is left without a batch norm."""
        left = [n.name for n in program.graph.nodes if _is_open_sum(n, program)]
        if left:
            raise PassError(f"expected a batch norm after every sum, {left} have none")

    def _norm(self, channels: int, rank: int, program: Program) -> nn.Module:
        like = next((t for t in program.parameters() if t.is_floating_point()), torch.empty(0))
        norm = _NORMS[rank](channels, eps=self.eps, momentum=self.momentum, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            norm.weight.fill_((1 + self.eps) ** 0.5)  # type: ignore[operator]
        return norm.train(program.training)


def _own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _is_open_sum(node: fx.Node, program: Program) -> bool:
    """Whether a node is the last sum of feature maps before anything but a batch norm."""
    if str(node.target) not in _SUMS or not node.users:
        return False
    shape: Any = node.meta.get(SHAPE, ())
    if len(shape) not in _NORMS or not isinstance(shape[1], int) or not _is_floating(node):
        return False
    operands = [a for a in node.args if isinstance(a, fx.Node) and a.op != "get_attr"]
    if len(operands) != 2 or any(o.meta.get(SHAPE) != shape for o in operands):
        return False
    return not all(_is_norm(user, program) or str(user.target) in _SUMS for user in node.users)


def _is_floating(node: fx.Node) -> bool:
    dtype = node.meta.get(DTYPE)
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def _is_norm(node: fx.Node, program: Program) -> bool:
    return node.op == "call_module" and isinstance(program.get_submodule(str(node.target)), tuple(_NORMS.values()))


def _free_path(node: fx.Node, taken: set[str]) -> str:
    scope = node.meta.get(SCOPE) or ""
    base = f"{scope}.sum_batchnorm" if scope else "sum_batchnorm"
    return unused(base, taken)
