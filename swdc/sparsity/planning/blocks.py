"""Plans that remove whole residual branches (the attention or the feed-forward part of a layer), or whole layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from swdc.costs.count import count
from swdc.errors import PlanError, told_as
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.branches import blocks_of, layers_of, without_branches
from swdc.sparsity.arguments import by_name
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.planning.earlier import Earlier
from swdc.sparsity.planning.group_patterns import matching
from swdc.sparsity.planning.widths import check_share

BLOCKS, LAYERS = "blocks", "layers"
UNITS: dict[str, Callable[[Program], dict[str, tuple[str, ...]]]] = {BLOCKS: blocks_of, LAYERS: layers_of}

BlockCriterion = Callable[..., Any]


def influence(program: Program, names: Sequence[str], statistics: Calibration | None) -> Sequence[float]:
    """Mean of one less the cosine between a stream before and after a branch was added (Men et al. 2024)."""
    if statistics is None:
        raise PlanError(
            "expected statistics for criterion='influence', got None; give those of swdc.calibrate(program, batches)"
        )
    return [statistics.influence[name] for name in names]


BLOCK_CRITERIA: dict[str, BlockCriterion] = {"influence": influence}
_COUNTS: dict[str, Callable[[Program], float]] = {
    "parameters": lambda program: count(program).parameters,
    "bytes": lambda program: sum(tensor.nbytes for tensor in program.read_state().values()),
    "operations": lambda program: count(program).operations,
    "macs": lambda program: count(program, "macs").operations,
}


class Units:
    """The branches or layers of a program, by their names, and what the program costs without some of them.

    What an ``earlier`` plan removes is gone already. ``branches`` holds those of each unit that is left.
    """

    def __init__(self, program: Program, structure: str, budget: str, earlier: Earlier) -> None:
        """``PlanError`` for a budget that no such plan has."""
        if budget not in (structure, *_COUNTS):
            raise PlanError(f"expected a budget of {[structure, *_COUNTS]} for structure={structure!r}, got {budget!r}")
        every, gone = UNITS[structure](program), set(earlier.branches)
        self.branches = {name: own for name, own in every.items() if not gone.issuperset(own)}
        self.budget, self._counted = budget, budget == structure
        self._program, self._earlier, self._narrow = program, earlier, earlier.narrow()
        self.full = float(len(every)) if self._counted else _COUNTS[budget](program)
        self._costs: dict[frozenset[str], float] = {}

    def allowed(self, ignore: Sequence[str]) -> list[str]:
        """Return the names of the units that no pattern names; ``PlanError`` for a pattern that matches nothing."""
        known = list(self.branches)
        kept = {name for pattern in ignore for name in matching("ignore", known, pattern)}
        return [name for name in known if name not in kept]

    def cost(self, units: Sequence[str]) -> float:
        """Return the cost of the program without some units."""
        if self._counted:
            return float(len(self.branches) - len(units))
        key = frozenset(units)
        if key not in self._costs:
            plan = self.plan(units, {})
            self._costs[key] = _COUNTS[self.budget](without_branches(self._narrow, plan, self._program))
        return self._costs[key]

    def fewest(self, order: Sequence[str], target: float) -> list[str]:
        """Return as few of the first units as have to go for a cost of ``target``; ``PlanError`` if all are too few."""
        low, high = 0, len(order)
        if self.cost(order) > target:
            raise PlanError(
                f"expected a budget that can be met, but at most {1 - self.cost(order) / self.full:.1%} of the "
                f"{self.budget} can be removed with all of them; lower the sparsity"
            )
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.cost(order[:middle]) <= target else (middle + 1, high)
        return list(order[:low])

    def plan(self, units: Sequence[str], settings: Mapping[str, Any]) -> Plan:
        """Return the plan that removes some units."""
        earlier, branches = self._earlier.branches, [branch for unit in units for branch in self.branches[unit]]
        chosen = [*earlier, *(branch for branch in branches if branch not in earlier)]
        widths = {group.name: group.width for group in self._program.groups}
        return Plan(self._earlier.kept, widths, self._program.hash(), {**settings, "branches": chosen})


def plan_blocks(
    program: Program,
    sparsity: float | Mapping[str, float],
    budget: str,
    criterion: str | BlockCriterion,
    statistics: Calibration | None,
    ignore: Sequence[str],
    structure: str,
    earlier: Earlier,
) -> Plan:
    """Return the plan that removes the branches, or layers, with the lowest scores, as few as meet the budget.

    It removes what the ``earlier`` plan removes, too. Raises ``PlanError`` if there are none, or if the budget cannot
    be met.
    """
    if isinstance(sparsity, Mapping):
        raise PlanError(f"expected one number as the sparsity of structure={structure!r}, got shares by group")
    check_share("sparsity", sparsity)
    units = Units(program, structure, budget, earlier)
    names = units.allowed(ignore)
    if not names:
        raise PlanError(no_units(structure))
    order = [names[place] for place in np.argsort(_scores(program, names, criterion, statistics), kind="stable")]
    settings: dict[str, Any] = {
        "structure": structure, "sparsity": sparsity, "budget": budget, "ignore": list(ignore),
        "policy": program.facts.policy,
        "criterion": criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "function"),
        **earlier.settings,
    }  # fmt: skip
    return units.plan(units.fewest(order, target_of(units.full, sparsity)), settings)


def target_of(full: float, sparsity: float) -> float:
    """Return the cost that may be left when a share of it is removed."""
    return full - sparsity * full + 1e-9 * full


def no_units(structure: str) -> str:
    """Return the message that a program has no branches, or layers, that can be removed."""
    return (
        f"expected residual {structure} that can be removed, got none: what goes is what a sum adds to a stream that "
        f"nothing else changes, as a norm after the sum does; plan with structure='channels'"
    )


def _scores(
    program: Program, names: Sequence[str], criterion: str | BlockCriterion, statistics: Calibration | None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    function = by_name("criterion", BLOCK_CRITERIA, criterion, " for blocks and layers, or a function")
    expected = "a criterion that takes a program, names of branches and statistics, and returns a score of each"
    with told_as(PlanError, expected, "see swdc.sparsity.planning.blocks for an example"):
        scores = np.asarray(function(program, names, statistics), dtype=np.float64)
    if scores.shape != (len(names),) or not np.isfinite(scores).all():
        raise PlanError(f"expected {len(names)} finite scores of branches, got shape {scores.shape}")
    return scores
