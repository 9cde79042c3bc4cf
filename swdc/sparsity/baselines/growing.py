"""Growing regularisation (GReg-1 of Wang et al. 2021): a fixed set decays harder and harder, and is then removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.groups import WRITES, ChannelGroup
from swdc.ir.program import Program
from swdc.sparsity.arguments import check_count, check_minimises, check_positive, check_start, check_steps
from swdc.sparsity.baselines.base import Removing
from swdc.sparsity.baselines.zeroed_parts import ZeroedParts
from swdc.sparsity.method import gradient_of
from swdc.sparsity.penalties.norms import L2
from swdc.sparsity.penalties.partial_updates import pull_
from swdc.sparsity.planning.budgets import PARAMETERS
from swdc.sparsity.planning.criteria import Scores
from swdc.sparsity.planning.plan import plan
from swdc.sparsity.planning.width_multiples import RoundTo
from swdc.sparsity.targets import Limits, WeightTargets
from swdc.sparsity.targets.structures import CHANNELS, FILTERS

_BY_FILTER = (CHANNELS, FILTERS)


class GrowingL2(Removing):
    """Fix a set by its L1 norm, let its own L2 penalty grow, remove it, fine-tune (GReg-1, Wang et al. 2021)::

        method = GrowingL2(program, 0.75, "channels", steps=steps, start=300 * n, optimizer=optimizer)

    After ``start`` steps the set is chosen, once. From then on every step adds ``factor * w`` to the gradients of its
    weights. ``factor`` (lambda in Algorithm 1) is raised by ``delta`` at once and after every ``every`` steps, up to
    ``ceiling``. After another ``stabilize`` steps at the ceiling, the set is removed; the rest of ``steps`` is
    fine-tuning. The defaults are of the size that the authors use, and take 110,000 steps; a shorter training needs a
    larger ``delta``.
    The usual weight decay is still that of the optimizer.

    ``structure="weights"`` chooses the weights outside norms with the least magnitude, all layers together, on any
    module.
    ``structure="channels"`` chooses the filters with the least L1 norm in their layer, an equal share of every layer.
    It is such that the share ``target`` of the parameters is removed, to one channel. Layers whose channels are
    coupled count as one. The penalty acts on filters alone; the biases of the filters, and the gains and biases of
    their norms, are removed with them.

    Raises ``PlanError`` for arguments out of range, if nothing can be removed, and for an optimizer that lacks a
    parameter of which a part may be removed.
    """

    name = "growing_l2"

    @checked(PlanError)
    def __init__(
        self, model: nn.Module, target: float, structure: str = "channels", *, steps: int, start: int = 0,
        optimizer: Optimizer, delta: float = 1e-4, every: int = 10, ceiling: float = 1.0, stabilize: int = 10_000,
        ignore: str | Iterable[str] = (), budget: str | None = None, round_to: RoundTo = 1,
        table: LatencyTable | None = None,
    ) -> None:  # fmt: skip
        check_steps(steps)
        check_start(start, steps)
        check_minimises(optimizer)
        if structure not in ("weights", *_BY_FILTER):
            raise PlanError(f"expected structure='weights' or 'channels' for growing regularisation, got {structure!r}")
        check_positive("delta", delta)
        check_positive("ceiling", ceiling)
        check_count("every", every)
        check_count("stabilize", stabilize, least=0)
        times = ceil(min(ceiling / delta, 2.0**63) - 1e-9)  # so that 0.3 / 0.1 is three
        removal = start + every * times + stabilize
        if removal > steps:
            raise PlanError(
                f"expected the removal within {steps} steps, but the penalty reaches its ceiling and settles only "
                f"after {removal}; make delta larger than {delta}, or every, stabilize or start smaller"
            )
        self.start, self.delta, self.every, self.ceiling = start, delta, every, ceiling
        self._chosen = ZeroedParts()
        growth = {"start": start, "delta": delta, "every": every, "ceiling": ceiling, "stabilize": stabilize}
        super().__init__(
            model, target, FILTERS if structure in _BY_FILTER else structure, steps=steps,
            removals=[(removal, target)], optimizer=optimizer, ignore=ignore, limits=Limits(budget, round_to, table),
            settings=growth,
        )  # fmt: skip

    @property
    def factor(self) -> float:
        """The factor of the penalty at the next step; zero before the start."""
        if self.s < self.start:
            return 0.0
        return min(self.delta * (1 + (self.s - self.start) // self.every), self.ceiling)

    def _penalise(self) -> None:
        """Choose the set at the start; from then on add its decay to the gradients."""
        if self.s < self.start:
            return
        if not self._chosen.parts:
            self._chosen = self._found(self.removals[0][1])
        for part in self._chosen.parts:
            if isinstance(self._targets, WeightTargets) or part.parameter.dim() > 1:  # filters, not gains or biases
                pull_(gradient_of(part.parameter), part, self.factor, L2.gradient)

    def _found(self, share: float) -> ZeroedParts:
        """Return the chosen set; before the start, the set that would be chosen now."""
        if self._chosen.parts or isinstance(self._targets, WeightTargets):
            return self._chosen if self._chosen.parts else super()._found(share)
        assert isinstance(self._model, Program)
        limits = self._limits
        chosen = plan(
            self._model, share, limits.budget or PARAMETERS, self._ranks, ignore=self._ignore,
            round_to=limits.round_to, table=limits.table,
        )  # fmt: skip
        return ZeroedParts.by_plan(self._model, self._named(chosen))

    def _ranks(self, program: Program, groups: Sequence[ChannelGroup]) -> Scores:
        """Return the scores of ``filter_l1``; groups that frozen parameters write or read stay whole."""
        found = zip(groups, filter_l1(program, groups), strict=True)
        return [None if group.name in self._still else scores for group, scores in found]

    def state_dict(self) -> dict[str, Any]:
        """Return the state: that of every baseline, and the chosen set."""
        return {**super().state_dict(), "chosen": self._chosen.state_dict()}

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        self._chosen = ZeroedParts.from_state(state["chosen"], self._model)


def filter_l1(program: Program, groups: Sequence[ChannelGroup]) -> Scores:
    """Return the rank of each channel in its group by the L1 norm of the filters that write it, between 0 and 1.

    One threshold on the ranks removes an equal share of every group.
    """
    tensors = program.tensors
    scores: Scores = []
    for group in groups:
        filters = [m for m in group.with_role(WRITES) if tensors[m.tensor].dim() > 1]
        norms = np.zeros(group.width)
        for member in filters:
            weight = tensors[member.tensor].detach().abs().double()
            others = [d for d in range(weight.dim()) if d != member.dim]
            norms += weight.sum(others).cpu().numpy()[member.indices].sum(1)
        scores.append(norms.argsort(kind="stable").argsort() / group.width if filters else None)
    return scores
