"""Channels, filters and heads: what a plan with a budget would remove now."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from torch import nn

from swdc.errors import PlanError
from swdc.ir.groups import Bools, Ids
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.trace_options import FREE
from swdc.sparsity.frozen import frozen_groups
from swdc.sparsity.planning.budgets import PARAMETERS
from swdc.sparsity.planning.chooser import Chooser
from swdc.sparsity.planning.criteria import Criterion
from swdc.sparsity.planning.latency import LATENCY
from swdc.sparsity.planning.plan import ignored_groups
from swdc.sparsity.planning.width_multiples import units_of
from swdc.sparsity.planning.widths import GLOBAL, widths_under
from swdc.sparsity.targets.base import Target, rests_of
from swdc.sparsity.targets.channel_parts import Pulled
from swdc.sparsity.targets.channel_scores import Segments
from swdc.sparsity.targets.criterion_scores import CriterionScores
from swdc.sparsity.targets.limits import Limits
from swdc.sparsity.targets.structures import CHANNELS, parts_of
from swdc.sparsity.targets.threshold import Threshold
from swdc.sparsity.weight_criteria import Saliency, magnitude


class ChannelTargets:
    """The channels of a program that a plan with a budget would remove now.

    ``structure`` says which groups lose channels, what decides and what is pulled (``parts_of``). ``limits`` say what
    the budget is a share of, and in which units channels go. A ``criterion`` scores the channels in place of the
    ``saliency`` of weights. One threshold over all groups decides; with a budget in
    time, the score lost for each millisecond. If the sides of residual sums are free, a group may lose all of its
    channels, as in the experiments of Tessier et al. (2022). If they are tied, a group keeps its best channel.
    """

    def __init__(
        self, program: nn.Module, target: float, ignore: tuple[str, ...], structure: str = CHANNELS,
        saliency: Saliency = magnitude, frozen: Collection[str] = (), limits: Limits | None = None,
        criterion: Criterion | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(program, Program):
            raise PlanError(
                f"expected a Program for structure={structure!r}, got {type(program).__name__}; trace the model with "
                f"swdc.trace first (training the program trains the model), and wrap the program, not the model"
            )
        self.model: nn.Module = program
        self._program, self._share, self._structure = program, target, structure
        self._emptying = program.facts.policy == FREE
        self._staying = 0 if self._emptying else 1
        still = frozen_groups(program, frozen)
        self._parts = parts_of(program, structure, ignored_groups(program, ignore) | still, bool(still))
        judged = None if criterion is None else CriterionScores(program, self._parts, criterion)
        self._parts = self._parts if judged is None else judged.parts
        self._limits = limits or Limits()
        self._units = units_of(program.groups, self._limits.round_to)
        self._costs = self._limits.costs(program, structure, self._parts, self._staying)
        parameters = dict(program.named_parameters(remove_duplicate=False))
        self._full = self._costs.full
        still_ones = {id(parameters[name]): parameters[name].numel() for name in frozen}
        self._fixed = sum(still_ones.values()) if self._costs.kind == PARAMETERS else 0
        rests = rests_of(program)
        self._segments = judged or Segments(parameters, self._parts, saliency, rests)
        self._channels, self.scoring = self._segments.channels, self._segments.scoring
        places = self._channels.places(part.pulled for part in self._parts)
        deciding = {m.tensor for part in self._parts for m in part.deciding}
        self._pulled = Pulled(parameters, places, deciding, rests)
        widths = np.array([group.width for group in program.groups])
        self._threshold = (
            Threshold(self._channels, widths, self._costs, self._budget(target), self._emptying)
            if (self._units == 1).all() and self._costs.kind != LATENCY
            else None
        )
        self._last: Bools | None = None
        self._choose(target)  # fails now rather than at the first step if the budget cannot be met

    def find(self, share: float | None = None) -> Sequence[Target]:
        """Return the pulled parts (see ``parts_of``) of the channels that would be removed now."""
        share = self._share if share is None else share
        return self._pulled.targets(self._quickly() if share == self._share else self._gone(share))

    def _quickly(self) -> Bools:
        """Return what ``_gone`` returns for the target share: the same object as last time if it is the same."""
        if self._threshold is None:
            gone = self._gone(self._share)
            self._pulled.check()
            if self._last is None or not np.array_equal(gone, self._last):
                self._last = gone
            return self._last
        scores = self._segments.values()
        self._pulled.check()
        found = self._threshold.find(scores)
        if found is None:
            found = self._gone(self._share)
            self._threshold.remember(scores, found)
        return found

    def candidates(self) -> Sequence[Target]:
        """Return the pulled parts (see ``parts_of``) of all channels."""
        return self._pulled.targets(np.ones(len(self._channels), dtype=bool))

    def _gone(self, share: float) -> Bools:
        """Return a mask over all channels of those to remove; ``PlanError`` if a score is NaN or infinity."""
        chooser, widths = self._choose(share)
        gone = np.zeros(len(self._channels), dtype=bool)
        for part, start in zip(self._parts, self._channels.starts, strict=True):
            gone[start + chooser.order(part.number)[int(widths[part.number]) :]] = True
        return gone

    def _budget(self, share: float) -> float:
        """Return the highest cost that may be left: frozen parameters are not counted in a share of the parameters."""
        return (1 - share) * (self._full - self._fixed) + self._fixed

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan that removes the channels at ``share``, by default the target share."""
        share = self._share if share is None else share
        chooser, widths = self._choose(share)
        settings: dict[str, object] = {
            "method": "swd", "structure": self._structure, "sparsity": share, "budget": self._costs.kind,
            "criterion": self.scoring.name, "policy": self._program.facts.policy,
            "round_to": self._limits.settings()["round_to"],
        }  # fmt: skip
        return chooser.plan(widths, self._program, settings)

    def _choose(self, share: float) -> tuple[Chooser, Ids]:
        program = self._program
        scores = self._segments.scores(len(program.groups))
        chooser = Chooser(program.groups, scores, self._units, self._staying)
        return chooser, widths_under(chooser, self._costs, GLOBAL, self._budget(share))
