"""Iterative magnitude pruning (Han et al. 2015): remove the least weights in rounds, and train on in between."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from swdc.errors import PlanError
from swdc.sparsity.arguments import check_count, check_start, check_steps
from swdc.sparsity.baselines.removing import Removing


class MagnitudePruning(Removing):
    """Train, remove what has the least magnitude, train what is left, and again (Han et al. 2015, section 3)::

        method = MagnitudePruning(program, 0.9, "weights", steps=410 * n, start=300 * n, every=15 * n, optimizer=sgd)

    The first of ``rounds`` removals follows the optimizer's step number ``start``; after round ``r`` the share
    ``target * r / rounds`` is gone (the target in fifths, as Tessier et al. 2022 run it, section 4.2). Removals are
    ``every`` steps apart, by default such that all fine-tunings last equally long; the last takes what is left of
    ``steps``.

    ``structure="weights"``: the weights outside norms with the least magnitude, all layers together, on any module.
    ``"channels"``: those with the least |gamma| in the batch norms that decide, one threshold for all, such that the
    share of the parameters is gone; without batch norms, those with the least norm of their filters. ``"filters"`` and
    ``"heads"`` are those of ``SWD``.

    Raises ``PlanError`` for arguments out of range, where nothing can go, and for an optimizer that does not hold
    what may go.
    """

    name = "magnitude"

    def __init__(
        self, model: nn.Module, target: float, structure: str = "weights", *, steps: int, start: int,
        optimizer: Optimizer, rounds: int = 5, every: int | None = None, ignore: Iterable[str] = (),
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
            ignore=ignore, settings={},
        )  # fmt: skip
