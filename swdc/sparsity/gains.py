"""The batch norms that decide over a channel: their gain is what the gamma criterion reads and SWD pulls on."""

from __future__ import annotations

from torch import fx, nn

from swdc.ir.program import Program

_SUMS = ("aten.add.Tensor", "aten.add_.Tensor")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def deciding_norms(program: Program) -> list[str]:
    """Return the paths of the batch norms that no later batch norm overrules, in the order of the graph.

    A batch norm whose result goes only into sums, and these only into other batch norms, decides nothing: the one
    after the sum does (section 3.3 of Tessier et al. 2022).
    """
    norms = [n for n in program.graph.nodes if _is_norm(program, n)]
    return list(dict.fromkeys(str(n.target) for n in norms if not _overruled(program, n)))


def _is_norm(program: Program, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    module = program.get_submodule(str(node.target))
    return isinstance(module, _NORMS) and module.weight is not None and module.bias is not None


def _overruled(program: Program, node: fx.Node) -> bool:
    sums = [user for user in node.users if str(user.target) in _SUMS]
    if not sums or len(sums) != len(node.users):
        return False
    return all(all(_is_norm(program, u) for u in s.users) or _overruled(program, s) for s in sums)
