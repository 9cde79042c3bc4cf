"""Making plans: scores and a budget in, kept channels out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.groups import WRITES, ChannelGroup, Ids
from swdc.plan import Plan
from swdc.program import Program
from swdc.sparsity.budgets import Budget
from swdc.sparsity.criteria import Criterion, Scores, find_criterion

SCOPES = ("global", "group")
_ROUNDING = 1e-12  # 0.9 of ten channels are nine, whatever the last bit says


def plan(
    program: Program,
    sparsity: float = 0.5,
    budget: str = "channels",
    criterion: str | Criterion = "l2",
    scope: str = "global",
    round_to: int = 1,
    ignore: Iterable[str] = (),
    weights: Mapping[str, torch.Tensor] | None = None,
    policy: str | None = None,
) -> Plan:
    """Choose the channels to keep.

    ``sparsity`` is the share that goes, in [0, 1), of what ``budget`` counts: removable ``channels``, ``parameters``
    or ``operations`` (the paper's, for one sample). The plan removes the fewest channels that meet the budget.
    ``criterion`` scores channels (``l2``, ``l1``, ``gamma``, ``uniform`` or a function; see
    ``swdc.sparsity.criteria``). ``weights`` gives the values to score, tensor by tensor, of a program that has none
    itself (on the meta device) or has others: a ``swdc.Checkpoint``, or tensors by name.
    ``scope="global"`` compares all channels; ``"group"`` takes the same share of every group, which is ``sparsity``
    itself when the budget is in channels. Kept numbers are multiples of ``round_to`` where a group is wide enough.
    ``policy`` says whether the sides of residual sums are ``tied`` or ``free`` (see ``swdc.trace``); it is that of the
    program unless given.
    ``ignore`` names modules or tensors (shell patterns) whose output channels all stay. No group is ever emptied.

    Raises ``PlanError`` for arguments out of range, a pattern that matches nothing, or a budget that cannot be met.
    """
    _check(sparsity, scope, round_to)
    program = program.under(policy)
    patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    ignored = ignored_groups(program, patterns)
    groups = program.groups
    costs = Budget(program, budget)
    scores = scored(program, groups, criterion, ignored, weights)
    chooser = Chooser(groups, scores, round_to)
    target = costs.full - sparsity * costs.full + _ROUNDING * costs.full
    if scope == "group" and budget == "channels":
        widths = chooser.shares(sparsity)
    else:
        widths = chooser.smallest(scope, costs, target)
    settings = {
        "sparsity": sparsity, "budget": budget, "scope": scope, "round_to": round_to, "ignore": list(patterns),
        "policy": program.facts.policy,
        "criterion": criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "function"),
    }  # fmt: skip
    return chooser.plan(widths, program, settings)


def _check(sparsity: float, scope: str, round_to: int) -> None:
    if not 0 <= sparsity < 1:
        raise PlanError(f"expected a sparsity (the share that goes) of at least 0 and below 1, got {sparsity}")
    if scope not in SCOPES:
        raise PlanError(f"expected a scope of {list(SCOPES)}, got {scope!r}")
    if not isinstance(round_to, int) or round_to < 1:
        raise PlanError(f"expected round_to as a whole number of at least 1, got {round_to!r}")


def ignored_groups(program: Program, patterns: Sequence[str]) -> set[str]:
    """Return the names of the groups that a module or tensor matching one of ``patterns`` writes."""
    ignored: set[str] = set()
    for pattern in patterns:
        matching = matching_names(program, pattern)
        for group in program.groups:
            if any(is_below(m.tensor, matching) for m in group.with_role(WRITES)):
                ignored.add(group.name)
    return ignored


def matching_names(model: nn.Module, pattern: str) -> set[str]:
    """Return the modules and tensors that a shell pattern names; ``PlanError`` if there are none."""
    tensors = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    names = {path for path, _ in model.named_modules() if path} | set(tensors)
    matching = {name for name in names if fnmatchcase(name, pattern)}
    if not matching:
        raise PlanError(
            f"expected ignore patterns that match a module or tensor, but {pattern!r} matches none; names look like "
            f"{', '.join(sorted(names)[:3])}"
        )
    return matching


def is_below(tensor: str, paths: set[str]) -> bool:
    """Whether a tensor is one of ``paths`` or lies in a module of them."""
    parts = tensor.split(".")
    return any(".".join(parts[: n + 1]) in paths for n in range(len(parts)))


def scored(
    program: Program,
    groups: Sequence[ChannelGroup],
    criterion: str | Criterion,
    ignored: set[str],
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Scores:
    """Return the scores of all groups, ``None`` for those that stay whole; ``PlanError`` if none is left."""
    candidates = [g for g in groups if g.name not in ignored]
    if not candidates:
        raise PlanError("expected at least one group of removable channels; program.explain() says what is frozen")
    extra = () if weights is None else (weights,)
    given = [None if s is None else np.asarray(s) for s in find_criterion(criterion)(program, candidates, *extra)]
    if len(given) != len(candidates):
        raise PlanError(f"expected scores for each of {len(candidates)} groups, got {len(given)}; None keeps a group")
    found = dict(zip((g.name for g in candidates), given, strict=True))
    scores = [found.get(g.name) for g in groups]
    if all(s is None for s in scores):
        raise PlanError(
            f"expected groups that the criterion {criterion!r} can score, but there is none; a network without batch "
            f"norms wants criterion='l2', or batch norms from swdc.insert_batchnorm"
        )
    for group, values in zip(groups, scores, strict=True):
        if values is not None and (np.shape(values) != (group.width,) or not np.isfinite(values).all()):
            raise PlanError(
                f"expected {group.width} finite scores for group {group.name!r}, got shape {np.shape(values)} "
                f"with {int((~np.isfinite(values)).sum())} that are not finite"
            )
    return [None if s is None else s.astype(np.float64) for s in scores]  # negating unsigned integers would wrap


class Chooser:
    """Turns scores into kept channels: by one order over all groups, or by a share of each."""

    def __init__(self, groups: Sequence[ChannelGroup], scores: Scores, round_to: int = 1) -> None:
        self._groups, self._round_to = groups, round_to
        self._widths = np.array([g.width for g in groups], dtype=np.int64)
        self._free = np.array([s is not None for s in scores])
        self._orders = [None if s is None else np.argsort(-s, kind="stable") for s in scores]
        free = [(group, s[o]) for group, (s, o) in enumerate(zip(scores, self._orders, strict=True)) if s is not None]
        owners = [np.full(len(s) - 1, group) for group, s in free]
        values = [s[1:] for _, s in free]  # the best channel of a group never goes
        ranks = [np.arange(1, len(s)) / len(s) for _, s in free]
        order = np.lexsort((-_joined(ranks), _joined(values)))  # ties are spread evenly over the groups
        self._removal = _joined(owners).astype(np.int64)[order]  # groups in the order in which they lose channels

    @property
    def steps(self) -> int:
        """The number of channels that can go at most."""
        return len(self._removal)

    def prefix(self, removed: float) -> Ids:
        """Return the widths after the ``removed`` lowest channels are gone, rounded."""
        gone = np.bincount(self._removal[: int(removed)], minlength=len(self._widths))
        return self._rounded(self._widths - gone)

    def shares(self, share: float) -> Ids:
        """Return the widths after a share of each group is gone, rounded."""
        gone = np.floor(self._widths * min(share, 1.0) + 1e-9).astype(np.int64)
        kept = np.maximum(self._widths - gone, 1)
        return self._rounded(np.where(self._free, kept, self._widths))

    def _rounded(self, widths: Ids) -> Ids:
        up = -(-widths // self._round_to) * self._round_to
        return np.minimum(up, self._widths)

    def smallest(self, scope: str, budget: Budget, target: float) -> Ids:
        """Return the widths of the least removal whose cost meets the target, by bisection."""
        if scope == "group":
            widths_at: Callable[[float], Ids] = self.shares
            points = np.unique(np.concatenate([np.arange(w) / w for w in set(self._widths.tolist())]))
        else:
            widths_at = self.prefix
            points = np.arange(self.steps + 1, dtype=np.float64)
        low, high = 0, len(points) - 1
        least = budget.cost(widths_at(points[high]))
        if least > target:
            most = 1 - least / max(budget.full, 1)
            raise PlanError(
                f"expected a budget that can be met, but at most {most:.1%} of the {budget.kind} can go while "
                f"every group keeps a channel; lower the sparsity, or ignore or freeze less"
            )
        while low < high:
            middle = (low + high) // 2
            if budget.cost(widths_at(points[middle])) <= target:
                high = middle
            else:
                low = middle + 1
        return widths_at(points[low])

    def plan(self, widths: Ids, program: Program, settings: dict[str, object]) -> Plan:
        """Return the plan that keeps the best channels of each group."""
        kept = {}
        for group, order, width in zip(self._groups, self._orders, widths, strict=True):
            chosen = np.arange(group.width) if order is None else np.sort(order[: int(width)])
            kept[group.name] = tuple(chosen.tolist())
        return Plan(kept, {g.name: g.width for g in self._groups}, program.hash(), settings)


def _joined(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0)
