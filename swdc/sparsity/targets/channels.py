"""Channels, filters and heads: what a plan with a budget would remove now."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.distributed import spread_like
from swdc.errors import PlanError
from swdc.groups import FREE, Bools, Ids
from swdc.plan import Plan
from swdc.program import Program
from swdc.sparsity.choosing import Chooser
from swdc.sparsity.planning import ignored_groups
from swdc.sparsity.saliency import Saliency, magnitude
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.segments import Segments
from swdc.sparsity.targets.structures import CHANNELS, costs_of, parts_of


class ChannelTargets:
    """The channels of a program that a plan with a budget would remove now, by one threshold over all groups.

    ``structure`` says which groups lose channels, what decides and what is pulled (``parts_of``); the budget is a
    share of the parameters, for heads of their number. Where the sides of residual sums are free a group may lose all
    its channels, as in the experiments of Tessier et al. (2022); where they are tied it keeps its best.
    """

    def __init__(
        self, program: nn.Module, target: float, ignore: tuple[str, ...], structure: str = CHANNELS,
        saliency: Saliency = magnitude,
    ) -> None:  # fmt: skip
        if not isinstance(program, Program):
            raise PlanError(
                f"expected a Program for structure={structure!r}, got {type(program).__name__}; trace the model with "
                f"swdc.trace first (training the program trains the model), and wrap the program where it is wrapped"
            )
        self.model: nn.Module = program
        self._program = program
        self._share, self._structure = target, structure
        self._parts = parts_of(program, structure, ignored_groups(program, ignore))
        self._costs = costs_of(program, structure, self._parts)
        self._segments = Segments(program, self._parts, saliency)
        self.scoring = self._segments.scoring
        self._pulls = self._segments.pulls()
        self._choose(target)  # fails now rather than at the first step where the budget cannot be met

    def find(self, share: float | None = None) -> list[Target]:
        """Return the gains and shifts, or all that writes, of the channels that would go."""
        chooser, widths = self._choose(self._share if share is None else share)
        gone = np.zeros(self._segments.total, dtype=bool)
        for part, start in zip(self._parts, self._segments.starts, strict=True):
            gone[start + chooser.order(part.number)[int(widths[part.number]) :]] = True
        return self._pulled(gone)

    def candidates(self) -> list[Target]:
        """Return the gains and shifts, or all that writes, of all channels."""
        return self._pulled(np.ones(self._segments.total, dtype=bool))

    def _pulled(self, gone: Bools) -> list[Target]:
        found = [_target(parameter, name, places, gone) for name, (parameter, places) in self._pulls.items()]
        return [target for target in found if target is not None]

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan."""
        share = self._share if share is None else share
        chooser, widths = self._choose(share)
        settings: dict[str, object] = {
            "method": "swd", "structure": self._structure, "sparsity": share, "budget": self._costs.kind,
            "criterion": self.scoring.name, "policy": self._program.facts.policy,
        }  # fmt: skip
        return chooser.plan(widths, self._program, settings)

    def _choose(self, share: float) -> tuple[Chooser, Ids]:
        program = self._program
        scores = self._segments.scores(len(program.groups))
        chooser = Chooser(program.groups, scores, emptying=program.facts.policy == FREE)
        return chooser, chooser.smallest("global", self._costs, (1 - share) * self._costs.full)


def _target(parameter: nn.Parameter, name: str, places: list[tuple[int, Ids, Ids]], gone: Bools) -> Target | None:
    """Return what goes of a parameter, whose ``places`` give positions along a dimension and their channels."""
    found: list[tuple[int, Any]] = [(dim, positions[gone[channels]]) for dim, positions, channels in places]
    if not any(len(positions) for _, positions in found):
        return None
    if [dim for dim, _ in found] == [0]:
        return Target.of_rows(parameter, name, np.sort(found[0][1]))
    chosen = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    for dim, positions in found:
        chosen.index_fill_(dim, torch.from_numpy(positions).to(parameter.device), True)
    return Target(parameter, name, spread_like(chosen, parameter))
