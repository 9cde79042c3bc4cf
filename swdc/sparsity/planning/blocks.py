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
    if budget not in (structure, *_COUNTS):
        raise PlanError(f"expected a budget of {[structure, *_COUNTS]} for structure={structure!r}, got {budget!r}")
    units = UNITS[structure](program)
    gone = set(earlier.branches)
    known = [name for name in units if not gone.issuperset(units[name])]
    kept = {name for pattern in ignore for name in matching("ignore", known, pattern)}
    names = [name for name in known if name not in kept]
    if not names:
        raise PlanError(
            f"expected residual {structure} that can be removed, got none: what goes is what a sum adds to a stream "
            f"that nothing else changes, as a norm after the sum does; plan with structure='channels'"
        )
    order = [names[place] for place in np.argsort(_scores(program, names, criterion, statistics), kind="stable")]
    settings: dict[str, Any] = {
        "structure": structure, "sparsity": sparsity, "budget": budget, "ignore": list(ignore),
        "policy": program.facts.policy,
        "criterion": criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "function"),
        **earlier.settings,
    }  # fmt: skip
    widths = {group.name: group.width for group in program.groups}
    narrow, channels = earlier.narrow(), earlier.kept

    def removing(number: int) -> Plan:
        branches = [branch for unit in order[:number] for branch in units[unit]]
        chosen = [*earlier.branches, *(branch for branch in branches if branch not in gone)]
        return Plan(channels, widths, program.hash(), {**settings, "branches": chosen})

    def cost(number: int) -> float:
        if budget == structure:
            return len(known) - number
        return _COUNTS[budget](without_branches(narrow, removing(number), program))

    full = len(units) if budget == structure else _COUNTS[budget](program)
    target = full - sparsity * full + 1e-9 * full
    low, high = 0, len(order)
    if cost(high) > target:
        raise PlanError(
            f"expected a budget that can be met, but at most {1 - cost(high) / full:.1%} of the {budget} can be "
            f"removed with all of them; lower the sparsity"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) <= target else (middle + 1, high)
    return removing(low)


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
