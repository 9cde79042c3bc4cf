"""Iterative magnitude pruning (Han et al. 2015): remove the least weights in rounds, and train in between."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.sparsity.arguments import check_count, check_start, check_steps
from swdc.sparsity.baselines.base import Removing
from swdc.sparsity.planning.width_multiples import RoundTo
from swdc.sparsity.targets import Limits


class MagnitudePruning(Removing):
    """Train, remove the weights with the least magnitude, train the rest, and repeat (Han et al. 2015, section 3)::

        method = MagnitudePruning(program, 0.9, "weights", steps=410 * n, start=300 * n, every=15 * n, optimizer=sgd)

    The first of ``rounds`` removals follows step ``start`` of the optimizer. After round ``r`` the share
    ``target * r / rounds`` is removed (by default a fifth of the target in each round, as in section 4.2 of Tessier et
    al. 2022). Removals are ``every`` steps apart, by default so that all fine-tunings are equally long. The last
    fine-tuning takes the rest of ``steps``.

    ``structure="weights"`` removes the weights outside norms with the least magnitude, all layers together, on any
    module.
    ``structure="channels"`` removes the channels with the least |gamma| in the batch norms that decide, by one
    threshold over all layers, so that the share of the parameters is removed. In a network without batch norms, it
    removes the channels with the least norm of their filters.
    ``"filters"``, ``"heads"``, ``"blocks"`` and ``"layers"`` are those of ``SWD``.

    Raises ``PlanError`` for arguments out of range, if nothing can be removed, and for an optimizer that lacks a
    parameter of which a part may be removed.
    """

    name = "magnitude"

    @checked(PlanError)
    def __init__(
        self, model: nn.Module, target: float, structure: str = "weights", *, steps: int, start: int,
        optimizer: Optimizer, rounds: int = 5, every: int | None = None, ignore: str | Iterable[str] = (),
        budget: str | None = None, round_to: RoundTo = 1, table: LatencyTable | None = None,
    ) -> None:  # fmt: skip
        check_steps(steps)
        check_start(start, steps)
        check_count("rounds", rounds)
        if every is not None:
            check_count("every", every)
            if start + (rounds - 1) * every > steps:
                raise PlanError(
                    f"expected {rounds} removals within {steps} steps, but the last would follow step "
                    f"{start + (rounds - 1) * every}; start earlier, or make every smaller than {every}"
                )
        at = [start + (r * (steps - start) // rounds if every is None else r * every) for r in range(rounds)]
        shares = [target * (r + 1) / rounds for r in range(rounds - 1)] + [target]
        super().__init__(
            model, target, structure, steps=steps, removals=list(zip(at, shares, strict=True)), optimizer=optimizer,
            ignore=ignore, limits=Limits(budget, round_to, table), settings={},
        )  # fmt: skip
