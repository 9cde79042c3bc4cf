"""Criteria: plain functions that score every channel of every group. The lowest scores go first.

A criterion takes a program and its groups, and returns for each group one score a channel, shape ``(width,)``, or
``None`` for a group that it has no opinion on (which is then kept whole).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from swdc.errors import PlanError
from swdc.groups import READS, WRITES, ChannelGroup
from swdc.program import Program
from swdc.sparsity.gains import deciding_norms

Scores = list[npt.NDArray[np.float64] | None]
Criterion = Callable[[Program, Sequence[ChannelGroup]], Scores]


def l2(program: Program, groups: Sequence[ChannelGroup]) -> Scores:
    """Euclidean norm of all weights that write or read a channel, divided by the mean over the group."""
    return _magnitude(program, groups, order=2)


def l1(program: Program, groups: Sequence[ChannelGroup]) -> Scores:
    """Sum of the magnitudes of all weights that write or read a channel, divided by the mean over the group."""
    return _magnitude(program, groups, order=1)


def gamma(program: Program, groups: Sequence[ChannelGroup]) -> Scores:
    """Mean of the gains |gamma| of the batch norms that decide over a channel (Liu et al. 2017)."""
    deciding = {f"{path}.weight" for path in deciding_norms(program)}
    tensors = program.tensors
    scores: Scores = []
    for group in groups:
        gains = [m for m in group.members if m.tensor in deciding]
        values = [tensors[m.tensor].detach().abs().double().cpu().numpy()[m.indices].mean(1) for m in gains]
        scores.append(np.mean(values, axis=0) if values else None)
    return scores


CRITERIA: dict[str, Criterion] = {"l2": l2, "l1": l1, "gamma": gamma}


def find_criterion(criterion: str | Criterion) -> Criterion:
    """Return a criterion by its name; a function is returned as it is."""
    if not isinstance(criterion, str):
        return criterion
    if criterion not in CRITERIA:
        raise PlanError(
            f"expected a criterion of {sorted(CRITERIA)} or a function of program and groups, got {criterion!r}"
        )
    return CRITERIA[criterion]


def _magnitude(program: Program, groups: Sequence[ChannelGroup], order: int) -> Scores:
    tensors = program.tensors
    used: dict[str, set[int]] = {}
    for member in (m for group in groups for m in group.members):
        used.setdefault(member.tensor, set()).add(member.dim)
    sums: dict[str, dict[int, npt.NDArray[np.float64]]] = {}

    def along(name: str, dim: int) -> npt.NDArray[np.float64]:
        """Return the sum of |w|^order for each index of a dimension."""
        if name not in sums:
            weights = tensors[name].detach().float() if tensors[name].element_size() < 4 else tensors[name].detach()
            powers = weights.square() if order == 2 else weights.abs()
            dims = [d for d in range(powers.dim()) if d in used[name]]
            others = {d: [o for o in range(powers.dim()) if o != d] for d in dims}
            sums[name] = {d: (powers.sum(o) if o else powers).double().cpu().numpy() for d, o in others.items()}
        return sums[name][dim]

    scores: Scores = []
    for group in groups:
        total = np.zeros(group.width)
        for member in group.members:
            if member.roles & {WRITES, READS} and tensors[member.tensor].is_floating_point():
                total += along(member.tensor, member.dim)[member.indices].sum(1)
        norm = total ** (1 / order)
        scores.append(norm / max(norm.mean(), np.finfo(np.float64).tiny))
    return scores
