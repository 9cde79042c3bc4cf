"""The scores of channels by a criterion of ``swdc.plan``, for methods that train."""

from __future__ import annotations

import numpy as np

from swdc.errors import PlanError
from swdc.ir.groups import ChannelGroup
from swdc.ir.module_tensors import need_whole
from swdc.ir.program import Program
from swdc.sparsity.planning.criteria import Criterion, Scores
from swdc.sparsity.planning.plan import scored
from swdc.sparsity.targets.structures import Part
from swdc.sparsity.targets.tables import Channels, Numbers
from swdc.sparsity.targets.weight_scores import Scoring


class CriterionScores:
    """The channels of the groups that may lose some, and their scores by a criterion, which is asked at every step.

    It sees the weights and the gradients as they are then. ``parts`` are the groups that it can judge; all others stay
    whole. Raises ``PlanError`` if it can judge none.
    """

    def __init__(self, program: Program, parts: list[Part], criterion: Criterion) -> None:
        need_whole(program, PlanError, "a criterion that scores channels")
        self._program, self._criterion = program, criterion
        first = self._scored([program.groups[part.number] for part in parts])
        self.parts = [part for part in parts if first[part.number] is not None]
        self._groups = [program.groups[part.number] for part in self.parts]
        self.channels = Channels.of(self.parts)
        self.scoring = Scoring(criterion, {})

    def scores(self, groups: int) -> Scores:
        """Return float64 scores for each of a number of groups, ``None`` for those that are not among the parts."""
        found = self._scored(self._groups)
        lost = [group.name for part, group in zip(self.parts, self._groups, strict=True) if found[part.number] is None]
        if lost:
            raise PlanError(
                f"expected scores of the same groups at every step, but {self.scoring.name} has none of {lost[0]!r} now"
            )
        return found

    def values(self) -> Numbers:
        """Return the score of every channel, shape ``(channels,)``."""
        found = self.scores(len(self._program.groups))
        return np.concatenate([s for s in (found[part.number] for part in self.parts) if s is not None])

    def _scored(self, groups: list[ChannelGroup]) -> Scores:
        chosen = {group.name for group in groups}
        others = {group.name for group in self._program.groups} - chosen
        return scored(self._program, self._program.groups, self._criterion, others)
