"""Criteria: functions that score every channel of every group. The channels with the lowest scores are removed first.

A criterion takes a program and its groups. It returns one score for each channel of a group, shape ``(width,)``, or
``None`` for a group that it cannot judge, which is then kept whole. If a plan is made from weights that are not in the
program (a checkpoint), the criterion gets them as its third argument. A criterion with a parameter ``statistics`` gets
what ``swdc.calibrate`` collected, and one with a parameter ``seed`` the seed of the plan, both by keyword.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from swdc.analysis.residual import deciding_norms
from swdc.errors import PlanError
from swdc.ir.groups import READS, WRITES, ChannelGroup
from swdc.ir.program import Program
from swdc.ir.weight_sources import Values
from swdc.sparsity import weight_criteria
from swdc.sparsity.arguments import by_name
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.planning.data_criteria import DATA_CRITERIA

Scores = list[npt.NDArray[np.float64] | None]
Criterion = Callable[..., Scores]
Weights = Mapping[str, torch.Tensor]


def l2(program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None) -> Scores:
    """Euclidean norm of all weights that write or read a channel, divided by the mean over the group."""
    return _magnitude(program, groups, weights, order=2)


def l1(program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None) -> Scores:
    """Sum of the magnitudes of all weights that write or read a channel, divided by the mean over the group."""
    return _magnitude(program, groups, weights, order=1)


def gamma(program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None) -> Scores:
    """Mean of the gains |gamma| of the batch norms that decide over a channel (Liu et al. 2017)."""
    deciding = {f"{path}.weight" for path in deciding_norms(program)}
    read = Values(program, weights)
    scores: Scores = []
    for group in groups:
        gains = [m for m in group.members if m.tensor in deciding]
        values = [read.whole(m.tensor).abs().double().cpu().numpy()[m.indices].mean(1) for m in gains]
        scores.append(np.mean(values, axis=0) if values else None)
    return scores


def uniform(program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None) -> Scores:
    """Equal scores for all channels, so that the last channels of each group are removed; reads no weights."""
    return [np.ones(group.width) for group in groups]


def gradient_weight(program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None) -> Scores:
    """Sum of |g w| over all weights that write a channel: by how much, to first order, the loss changes without it.

    The gradients are those of the program's parameters: run ``backward`` of the loss on some batches before. Raises
    ``PlanError`` if all scores are zero.
    """
    tensors, read = program.tensors, Values(program, weights)
    scores: Scores = []
    for group in groups:
        total = np.zeros(group.width)
        for member in group.with_role(WRITES):
            gradient = tensors[member.tensor].grad
            if gradient is not None:
                change = weight_criteria.gradient_weight(read.whole(member.tensor) - member.rest, gradient)
                others = [d for d in range(change.dim()) if d != member.dim]
                sums = (change.sum(others) if others else change).double().cpu().numpy()
                total += sums[member.indices].sum(1)
        scores.append(total)
    if not any(score.any() for score in scores if score is not None):
        raise PlanError(
            "expected gradients for criterion='gradient_weight', got none other than zero; call backward of the loss "
            "on some batches before, and do not clear the gradients"
        )
    return scores


def random(
    program: Program, groups: Sequence[ChannelGroup], weights: Weights | None = None, *, seed: int = 0
) -> Scores:
    """Random scores between 0 and 1, the same for the same seed; reads no weights."""
    generator = np.random.default_rng(seed)
    return [generator.random(group.width) for group in groups]


CRITERIA: dict[str, Criterion] = {
    "l2": l2, "l1": l1, "gamma": gamma, "gradient_weight": gradient_weight, "uniform": uniform, "random": random,
    **DATA_CRITERIA,
}  # fmt: skip
WITHOUT_DATA = tuple(name for name in CRITERIA if name not in DATA_CRITERIA and name != "gradient_weight")
"""The criteria that need neither gradients nor statistics."""


def find_criterion(criterion: str | Criterion) -> Criterion:
    """Return a criterion by its name; a function is returned as it is."""
    return by_name("criterion", CRITERIA, criterion, " or a function of program and groups")


def scores_channels(function: Callable[..., Any]) -> bool:
    """Whether a function scores the channels of a program: its first parameter is called ``program``."""
    try:
        return next(iter(inspect.signature(function).parameters), "") == "program"
    except (TypeError, ValueError):  # a callable of C
        return False


def called_with(criterion: Criterion, name: str, statistics: Calibration | None, seed: int) -> dict[str, Any]:
    """Return the keyword arguments that a criterion asks for; ``PlanError`` if it asks for statistics without any."""
    given: dict[str, Any] = {"statistics": statistics, "seed": seed}
    asked = [key for key in given if _asks_for(criterion, key)]
    if "statistics" in asked and statistics is None:
        raise PlanError(
            f"expected statistics for criterion={name!r}, got None; give those of swdc.calibrate(program, batches)"
        )
    return {key: given[key] for key in asked}


def reads_statistics(criterion: str | Criterion) -> bool:
    """Whether a criterion asks for what ``swdc.calibrate`` collects."""
    return _asks_for(find_criterion(criterion), "statistics")


def _asks_for(criterion: Criterion, name: str) -> bool:
    try:
        return name in inspect.signature(criterion).parameters
    except (TypeError, ValueError):  # a callable of C
        return False


def _magnitude(program: Program, groups: Sequence[ChannelGroup], weights: Weights | None, order: int) -> Scores:
    tensors, values = program.tensors, Values(program, weights)
    used: dict[str, set[int]] = {}
    for member in (m for group in groups for m in group.members):
        used.setdefault(member.tensor, set()).add(member.dim)
    sums: dict[str, dict[int, npt.NDArray[np.float64]]] = {}
    scores: Scores = []
    for group in groups:
        total = np.zeros(group.width)
        for member in group.members:
            if member.roles & {WRITES, READS} and tensors[member.tensor].is_floating_point():
                name = member.tensor
                if name not in sums:
                    sums[name] = _sums(values, name, used[name], order, member.rest)
                total += sums[name][member.dim][member.indices].sum(1)
        norm = total ** (1 / order)
        scores.append(norm / max(norm.mean(), np.finfo(np.float64).tiny))
    return scores


def _sums(values: Values, name: str, dims: set[int], order: int, rest: float) -> dict[int, npt.NDArray[np.float64]]:
    """Return the sum of |w - rest|^order for each index of some dimensions, added up part by part."""
    found = {d: np.zeros(values.shape(name)[d]) for d in dims}
    first = 0
    for part in values.parts(name):
        weights = part.float() if part.element_size() < 4 else part
        weights = weights - rest if rest else weights
        powers = weights.square() if order == 2 else weights.abs()
        for d in dims:
            others = [o for o in range(powers.dim()) if o != d]
            sums = (powers.sum(others) if others else powers).double().cpu().numpy()
            there = slice(first, first + len(part)) if d == 0 else slice(None)
            found[d][there] += sums  # in place, because small arrays that stay fragment the memory of large ones
        first += len(part)
    return found


def numbers(scores: Any) -> np.ndarray[Any, Any]:
    """Return scores as an array; ``TypeError`` if they are no real numbers."""
    found = np.asarray(scores)
    if found.dtype.kind not in "biuf":
        raise TypeError(
            f"the scores are of type {found.dtype}, and no real numbers; return a list with an array for each group"
        )
    return found
