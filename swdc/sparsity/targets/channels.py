"""Channels, filters and heads: what a plan with a budget would remove now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from swdc.errors import PlanError
from swdc.ir.groups import Bools, Ids
from swdc.ir.options import FREE
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.planning.chooser import Chooser
from swdc.sparsity.planning.dimensions import Floats
from swdc.sparsity.planning.plan import ignored_groups
from swdc.sparsity.saliency import Saliency, magnitude
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.cut import Cut
from swdc.sparsity.targets.pulled import Pulled
from swdc.sparsity.targets.segments import Segments
from swdc.sparsity.targets.standing import Standing
from swdc.sparsity.targets.structures import CHANNELS, costs_of, parts_of
from swdc.sparsity.targets.unread import Unread


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
                f"swdc.trace first (training the program trains the model), and wrap that where it is wrapped"
            )
        self.model: nn.Module = program
        self._program = program
        self._share, self._structure = target, structure
        self._parts = parts_of(program, structure, ignored_groups(program, ignore))
        self._costs = costs_of(program, structure, self._parts)
        self._segments = Segments(program, self._parts, saliency)
        self.scoring = self._segments.scoring
        pulls, deciding = self._segments.pulls(), self._segments.deciding
        self._pulled = Pulled(pulls)
        self._unread = Unread({name: parameter for name, (parameter, _) in pulls.items() if name not in deciding})
        self._full, self._emptying = self._costs.full, program.facts.policy == FREE
        widths = np.array([group.width for group in program.groups])
        self._cut = Cut(self._segments.groups, self._segments.starts, widths, self._costs, self._emptying)
        self._standing = Standing(self._segments.groups, widths, self._costs, self._budget(target))
        self._choose(target)  # fails now rather than at the first step where the budget cannot be met

    def find(self, share: float | None = None) -> Sequence[Target]:
        """Return the gains and shifts, or all that writes, of the channels that would go."""
        if share is not None and share != self._share:
            return self._pulled.targets(self._gone(share))
        values = self._segments.unchecked()
        self._unread.check()
        gone = self._standing.find(values)
        if gone is None:
            gone = self._found(self._segments.checked(values))
            self._standing.remember(values, gone)
        return self._pulled.targets(gone)

    def candidates(self) -> Sequence[Target]:
        """Return the gains and shifts, or all that writes, of all channels."""
        return self._pulled.targets(np.ones(self._segments.total, dtype=bool))

    def _found(self, values: Floats) -> Bools:
        """Return which channels go, near the last threshold if they are there."""
        gone = self._cut.find(values, self._budget(self._share))
        if gone is None:
            gone = self._gone(self._share)
            self._cut.remember(float(values[gone].max(initial=0)))
        return gone

    def _gone(self, share: float) -> Bools:
        """Return which channels go, by the order of all."""
        chooser, widths = self._choose(share)
        gone = np.zeros(self._segments.total, dtype=bool)
        for part, start in zip(self._parts, self._segments.starts, strict=True):
            gone[start + chooser.order(part.number)[int(widths[part.number]) :]] = True
        return gone

    def _budget(self, share: float) -> float:
        return (1 - share) * self._full

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
        chooser = Chooser(program.groups, scores, emptying=self._emptying)
        return chooser, chooser.smallest("global", self._costs, self._budget(share))
