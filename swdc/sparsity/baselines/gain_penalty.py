"""A penalty on the gains of the batch norms that decide over channels (Liu et al. 2017)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.sparsity.arguments import check_positive
from swdc.sparsity.method import gradient_of
from swdc.sparsity.penalties.norms import Norm, find_norm
from swdc.sparsity.penalties.partial_updates import pull_
from swdc.sparsity.planning.plan import ignored_groups
from swdc.sparsity.targets import Target
from swdc.sparsity.targets.structures import CHANNELS, parts_of


class GainPenalty:
    """Adds the gradient of ``coefficient * sum(norm(gamma))`` over all channels that a batch norm decides over."""

    def __init__(
        self,
        program: nn.Module,
        coefficient: float,
        norm: str | Norm,
        ignore: Sequence[str],
        still: Collection[str] = (),
    ) -> None:
        """Groups in ``still`` are frozen.

        Raises ``PlanError`` for arguments out of range, and for a program whose norms decide nothing.
        """
        if coefficient != 0:
            check_positive("penalty", coefficient)
        self._coefficient, self._norm = coefficient, find_norm(norm)
        self._gains = _gains(program, ignore, still)

    def add_(self) -> None:
        """Add the gradient of the penalty to the gradients of the gains."""
        for target in self._gains:
            pull_(gradient_of(target.parameter), target, self._coefficient, self._norm.gradient)


def _gains(program: nn.Module, ignore: Sequence[str], still: Collection[str]) -> list[Target]:
    assert isinstance(program, Program)
    parts = [p for p in parts_of(program, CHANNELS, ignored_groups(program, ignore) | {*still}) if p.by_gain]
    if not parts:
        raise PlanError(
            "expected batch norms that decide over channels, got a program without any; add them with "
            "swdc.insert_batchnorm before training, or take the method 'magnitude'"
        )
    parameters, rows = program.read_parameters(), dict[str, torch.Tensor]()
    for member in (m for part in parts for m in part.deciding):
        those = rows.setdefault(member.tensor, torch.zeros(len(parameters[member.tensor]), dtype=torch.bool))
        those[torch.from_numpy(member.indices.ravel())] = True
    return [Target.of_rows(parameters[name], name, those) for name, those in rows.items()]
