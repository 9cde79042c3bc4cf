"""The tensors of a slim program in the sizes of the dense one: the masked model as it is now, trained or solved again.

What a mask sets to zero is zero, and so is what reads it. The constants of removed channels are in biases of the slim
program, so they must not count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from swdc.ir.call import Ref
from swdc.ir.groups import READS, WRITES, Member
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.rewriting.cutting import kept_by


def scattered(dense: Program, slim: Program) -> dict[str, torch.Tensor]:
    """Return tensors by name with which the dense program computes what the slim program computes.

    The slim program was made from one with the graph of the dense one; values of the dense program do not matter,
    except for statistics of removed channels.
    """
    assert slim.facts.origin is not None
    plan, given = slim.facts.origin.plan, slim.tensors
    kept = kept_by(dense, {name: channels or (0,) for name, channels in plan.kept.items()})
    removed: dict[str, list[tuple[Member, torch.Tensor]]] = {}
    for group in dense.groups:
        gone = np.setdiff1d(np.arange(group.width), plan.kept.get(group.name, range(group.width)))
        for member in group.members:
            removed.setdefault(member.tensor, []).append((member, torch.from_numpy(member.indices[gone].ravel())))
    made: dict[int, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in dense.tensors.items():
        if id(tensor) not in made:
            indices = [kept.indices(Ref(name), dim) for dim in range(tensor.dim())]
            made[id(tensor)] = _one(tensor, given[name], indices, removed.get(name, []))
        found[name] = made[id(tensor)]
    _carry(dense, slim, plan.kept, found)
    return found


def _one(
    tensor: torch.Tensor,
    small: torch.Tensor,
    indices: list[np.ndarray | None],
    removed: list[tuple[Member, torch.Tensor]],
) -> torch.Tensor:
    """Return a tensor of the dense size with the values of a slim one."""
    data = tensor.detach().to(small.device, small.dtype, copy=True)
    for member, gone in removed:
        if member.roles & {WRITES, READS}:
            data.index_fill_(member.dim, gone.to(data.device), member.rest if WRITES in member.roles else 0.0)
    if data.dim():
        places = [np.arange(size) if rows is None else rows for size, rows in zip(data.shape, indices, strict=True)]
        data[tuple(torch.from_numpy(rows).to(data.device) for rows in np.ix_(*places))] = small.detach()
    else:
        data.copy_(small.detach())
    return nn.Parameter(data, small.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _carry(dense: Program, slim: Program, kept: Mapping[str, Iterable[int]], found: dict[str, torch.Tensor]) -> None:
    """Let a removed channel that is constant bring what the slim program has in a bias that the dense one lacks."""
    coupling, given = dense.coupling, slim.tensors
    stays = coupling.keep(kept)
    after = {node.name: call for node, (_, call) in calls(slim).items()}
    for node, (_, call) in calls(dense).items():
        constants = coupling.constants.get(node.name)
        new = after[node.name].arguments.get("bias") if node.name in after else None
        if constants is None or call["bias"] is not None or new is None:
            continue
        rows, columns = coupling.tensors[call["weight"]][:2]
        gone = np.flatnonzero(~stays[columns] & (constants != 0))
        weight = found[str(call["weight"])]
        with torch.no_grad():
            column = weight.select(1, int(gone[0]))
            times = float(constants[gone[0]]) * (column[0].numel() if column.dim() > 1 else 1)
            written = np.arange(len(column)) if rows is None else np.flatnonzero(stays[rows])
            share = (given[new].detach() / times).reshape(-1, *[1] * (column.dim() - 1))
            column[torch.from_numpy(written)] = share.to(column).expand(len(written), *column.shape[1:])
