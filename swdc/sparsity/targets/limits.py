"""What a target is a share of, and in which units channels go: the budget of a plan, for methods that train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swdc.analysis.heads import HEADS
from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.groups import Ids
from swdc.ir.program import Program
from swdc.sparsity.fingerprints import of_function
from swdc.sparsity.planning.budgets import PARAMETERS, Costs, NumberOfHeads, Terms
from swdc.sparsity.planning.plan import BUDGET_NAMES, costs_of
from swdc.sparsity.planning.width_multiples import RoundTo, plain
from swdc.sparsity.targets.structures import Part


@dataclass(frozen=True)
class Limits:
    """A budget, units of channels, and a table of times, as ``swdc.plan`` takes them.

    Without a ``budget`` the target is a share of the parameters, or for heads of the number of heads.
    """

    budget: str | Terms | None = None
    round_to: RoundTo = 1
    table: LatencyTable | None = None

    def costs(self, program: Program, structure: str, parts: list[Part], staying: int) -> Costs:
        """Return the cost that a target is a share of; ``staying`` channels of every group always stay."""
        if self.budget is None and structure == HEADS:
            return NumberOfHeads(program, [part.number for part in parts])
        return costs_of(program, self.budget or PARAMETERS, _least(program, parts, staying), self.table)

    def settings(self) -> dict[str, object]:
        """Return budget and units as plain data."""
        budget = self.budget if self.budget is None or isinstance(self.budget, str) else of_function(self.budget, ())
        return {"budget": budget, "round_to": plain(self.round_to)}

    def check(self, structure: str, of_weights: bool) -> None:
        """Raise ``PlanError`` for an unknown budget, and for one of channels where single weights are targeted."""
        known = (None, *BUDGET_NAMES)
        if not callable(self.budget) and self.budget not in known:
            raise PlanError(f"expected a budget of {list(known)}, got {self.budget!r}")
        if of_weights and (self.budget not in (None, PARAMETERS) or self.round_to != 1):
            raise PlanError(
                f"expected no budget and no round_to with structure={structure!r}, which targets single weights, got "
                f"{self.settings()}; take structure='channels' or 'filters'"
            )


def _least(program: Program, parts: list[Part], staying: int) -> Ids:
    """Return the smallest widths that the groups may have."""
    least = np.array([group.width for group in program.groups], dtype=np.int64)
    for part in parts:
        least[part.number] = min(staying, part.width)
    return least
