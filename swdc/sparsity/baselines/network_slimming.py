"""Network slimming (Liu et al. 2017): train with an L1 penalty on the gains of batch norms, remove once, fine-tune."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.sparsity.arguments import check_minimises, check_start, check_steps
from swdc.sparsity.baselines.base import Removing
from swdc.sparsity.baselines.gain_penalty import GainPenalty
from swdc.sparsity.penalties.norms import Norm, find_norm
from swdc.sparsity.planning.width_multiples import RoundTo
from swdc.sparsity.targets import Limits
from swdc.sparsity.targets.structures import CHANNELS


class NetworkSlimming(Removing):
    """Train with the penalty, remove the channels with the least gains once, train the rest (Liu et al. 2017)::

        method = NetworkSlimming(program, 0.75, steps=350 * n, start=300 * n, penalty=1e-4, optimizer=optimizer)

    The removal follows step ``start`` of the optimizer. Until then every step adds the gradient of
    ``penalty * sum |gamma|`` over all gains that decide over a channel (eq. 1; at zero the subgradient is zero).
    ``norm="smooth_l1"`` takes ``gamma^2`` inside [-1, 1] instead, as the experiments of Tessier et al. (2022) do, with
    a ``penalty`` of 1e-4 on CIFAR and 1e-5 on ImageNet. The network is then fine-tuned without the penalty.

    One threshold on |gamma| over all layers decides. Liu et al. set it by the share of channels to remove. Here it is
    set by the share ``target`` of the parameters to remove, as in section 3.3 of Tessier et al.

    Raises ``PlanError`` for arguments out of range, for a program without batch norms that decide, and for an optimizer
    that lacks a parameter of which a part may be removed.
    """

    name = "slimming"

    @checked(PlanError)
    def __init__(
        self, model: nn.Module, target: float, structure: str = "channels", *, steps: int, start: int,
        optimizer: Optimizer, penalty: float = 1e-4, norm: str | Norm = "l1", ignore: str | Iterable[str] = (),
        budget: str | None = None, round_to: RoundTo = 1, table: LatencyTable | None = None,
    ) -> None:  # fmt: skip
        if structure != CHANNELS:
            raise PlanError(
                f"expected structure='channels', because network slimming removes channels by their gains, got "
                f"{structure!r}; the method 'magnitude' takes others"
            )
        check_steps(steps)
        check_start(start, steps)
        check_minimises(optimizer)
        super().__init__(
            model, target, structure, steps=steps, removals=[(start, target)], optimizer=optimizer, ignore=ignore,
            limits=Limits(budget, round_to, table), settings={"penalty": penalty, "norm": find_norm(norm).name},
        )  # fmt: skip
        self._penalty = GainPenalty(model, penalty, norm, self._ignore, self._still)

    def _penalise(self) -> None:
        """Add the gradient of the penalty on the gains."""
        self._penalty.add_()
