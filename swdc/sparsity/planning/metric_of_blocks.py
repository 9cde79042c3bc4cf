"""Scores of residual branches and layers by what a metric says without each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.rewriting.rewrites import mask
from swdc.sparsity.arguments import check_count
from swdc.sparsity.metrics import Metric, measured
from swdc.sparsity.planning.blocks import UNITS, BlockCriterion, Units
from swdc.sparsity.planning.earlier import Earlier


@checked(PlanError)
def fall_of_metric(metric: Metric, *, seed: int = 0, progress: bool = True) -> BlockCriterion:
    """Return a criterion for plans of blocks or layers: by how much a metric falls without each of them.

    ``metric`` takes a program in evaluation and returns a number, higher if better: a negative loss or perplexity on
    held-out data, say. It is called once for the whole program and once for each branch or layer, always under the same
    ``seed`` of torch. Those whose removal costs least go first in
    ``swdc.plan(program, 0.3, "parameters", criterion, structure="blocks")``. What is measured is the removal of one
    alone: two may stand in for each other.

    The criterion raises ``PlanError`` if the metric fails, or returns anything but a finite number.

    Source: ranking by perplexity in Kim et al. 2024, "Shortened LLaMA".

    Example::

        criterion = swdc.fall_of_metric(lambda program: -float(program(x).square().mean()))
    """
    check_count("seed", seed, least=0)

    def fall(program: Program, names: Sequence[str], statistics: Any = None) -> list[float]:
        need_values(program, PlanError, "a metric")
        structure = next(s for s, named in UNITS.items() if named(program).keys() >= {*names})
        units = Units(program, structure, structure, Earlier(program, None))
        whole, found = measured(metric, program, seed), []
        with progress_bar(hidden=not progress) as bar:
            for number, name in enumerate(names):
                bar.show(f"measuring {structure}", number, len(names))
                found.append(whole - measured(metric, mask(program, units.plan([name], {})), seed))
        return found

    fall.__name__ = fall_of_metric.__name__
    return fall
