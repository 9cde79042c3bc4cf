"""Channels: what a plan with a parameter budget would remove now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.groups import WRITES, ChannelGroup, Ids, Member
from swdc.plan import Plan
from swdc.program import Program
from swdc.sparsity.budgets import Budget
from swdc.sparsity.choosing import Chooser
from swdc.sparsity.criteria import gamma, l2
from swdc.sparsity.gains import deciding_norms
from swdc.sparsity.planning import ignored_groups, scored
from swdc.sparsity.targets.base import Target


class ChannelTargets:
    """The channels of a program that a plan with a parameter budget would remove now."""

    def __init__(self, program: nn.Module, target: float, ignore: tuple[str, ...]) -> None:
        if not isinstance(program, Program):
            raise PlanError(
                f"expected a Program for structure='channels', got {type(program).__name__}; trace the model with "
                f"swdc.trace first (training the program trains the model)"
            )
        self._program, self._share = program, target
        self._budget = Budget(program, "parameters")
        self._ignored = ignored_groups(program, ignore)
        norms = deciding_norms(program)
        self._criterion = gamma if norms else l2
        gains = {f"{path}.{name}" for path in norms for name in ("weight", "bias")}
        self._pulled = [self._members(group, gains if norms else None) for group in program.groups]
        if not any(self._pulled):
            raise PlanError("expected channels that can be removed; program.explain() says what is frozen")
        self._choose(target)  # fails now rather than at the first step where the budget cannot be met

    def find(self, share: float | None = None) -> list[Target]:
        """Return the gains and shifts, or the filters, of the channels that would go."""
        return self._parts(self.plan(share).kept)

    def candidates(self) -> list[Target]:
        """Return the gains and shifts, or the filters, of all channels."""
        return self._parts({group.name: () for group in self._program.groups})

    def _parts(self, kept: Mapping[str, Sequence[int]]) -> list[Target]:
        parts: dict[str, list[Any]] = {}
        for group, members in zip(self._program.groups, self._pulled, strict=True):
            removed = np.setdiff1d(np.arange(group.width), kept[group.name])
            for member in members if len(removed) else ():
                parts.setdefault(member.tensor, []).append((member.dim, member.indices[removed].ravel()))
        tensors = self._program.tensors
        return [self._target(name, tensors[name], found) for name, found in parts.items()]

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan."""
        share = self._share if share is None else share
        chooser, widths = self._choose(share)
        settings = {
            "method": "swd",
            "sparsity": share,
            "budget": "parameters",
            "criterion": self._criterion.__name__,
        }
        return chooser.plan(widths, self._program, settings)

    def _choose(self, share: float) -> tuple[Chooser, Ids]:
        program = self._program
        chooser = Chooser(program.groups, scored(program, program.groups, self._criterion, self._ignored))
        return chooser, chooser.smallest("global", self._budget, (1 - share) * self._budget.full)

    def _members(self, group: ChannelGroup, gains: set[str] | None) -> list[Member]:
        if group.name in self._ignored:
            return []
        return [m for m in group.with_role(WRITES) if gains is None or m.tensor in gains]

    def _target(self, name: str, tensor: torch.Tensor, found: list[Any]) -> Target:
        assert isinstance(tensor, nn.Parameter)
        if all(dim == 0 for dim, _ in found):
            rows = np.unique(np.concatenate([indices for _, indices in found]))
            return Target(tensor, name, torch.from_numpy(rows).to(tensor.device))
        chosen = torch.zeros_like(tensor, dtype=torch.bool)
        for dim, indices in found:
            chosen.index_fill_(dim, torch.from_numpy(indices).to(tensor.device), True)
        return Target(tensor, name, chosen)
