"""Learning rate rewinding (Renda et al. 2020): train, remove once, and train again with the same schedule."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.sparsity.arguments import check_start, check_steps
from swdc.sparsity.baselines.base import Removing
from swdc.sparsity.baselines.gain_penalty import GainPenalty
from swdc.sparsity.penalties.norms import Norm, find_norm
from swdc.sparsity.planning.width_multiples import RoundTo
from swdc.sparsity.targets import Limits
from swdc.sparsity.targets.structures import CHANNELS


class LRRewinding(Removing):
    """Train, remove the weights with the least magnitude, train the rest as long again (Renda et al. 2020)::

        method = LRRewinding(program, 0.9, "weights", steps=2 * epochs * n, optimizer=optimizer)
        rate = schedule(method.s - max((s for s in method.restarts if s <= method.s), default=0))

    Weights keep the values that they have after the first training. Only the schedule of the learning rate starts
    again, at the steps in ``restarts``. ``steps`` counts both trainings. The removal follows step ``start`` of the
    optimizer, by default half of ``steps``. The whole set is removed at once, as in section 4.2 of Tessier et al.
    (2022).

    ``structure`` and what is removed are those of ``MagnitudePruning``. For channels, ``penalty`` adds the penalty of
    network slimming until the removal, as Tessier et al. do (1e-4 on CIFAR with ``norm="smooth_l1"``).

    Raises ``PlanError`` for arguments out of range, if nothing can be removed, and for an optimizer that lacks a
    parameter of which a part may be removed.
    """

    name = "lr_rewinding"

    @checked(PlanError)
    def __init__(
        self, model: nn.Module, target: float, structure: str = "weights", *, steps: int, start: int | None = None,
        optimizer: Optimizer, penalty: float = 0.0, norm: str | Norm = "l1", ignore: str | Iterable[str] = (),
        budget: str | None = None, round_to: RoundTo = 1, table: LatencyTable | None = None,
    ) -> None:  # fmt: skip
        check_steps(steps)
        start = steps // 2 if start is None else start
        check_start(start, steps)
        if penalty and structure != CHANNELS:
            raise PlanError(f"expected a penalty on gains with structure='channels' only, got one with {structure!r}")
        super().__init__(
            model, target, structure, steps=steps, removals=[(start, target)], optimizer=optimizer, ignore=ignore,
            limits=Limits(budget, round_to, table), settings={"penalty": penalty, "norm": find_norm(norm).name},
        )  # fmt: skip
        self.restarts = (start,)
        self._penalty = GainPenalty(model, penalty, norm, self._ignore, self._still) if penalty else None

    def _penalise(self) -> None:
        """Add the gradient of the penalty on the gains, if there is one."""
        if self._penalty is not None:
            self._penalty.add_()
