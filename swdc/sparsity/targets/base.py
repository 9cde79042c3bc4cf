"""What would go now: parts of parameters, and the plan that removes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from swdc.ir.distributed import spread_like
from swdc.ir.plan import Plan
from swdc.sparsity.targets.scoring import Scoring


@dataclass(frozen=True)
class Target:
    """The part of one parameter that would go, as a mask of its shape.

    That of rows is a view that takes no more memory than one number for each of them; that of a parameter that lies in
    parts over processes lies in the same parts (a DTensor).
    """

    parameter: nn.Parameter
    name: str
    chosen: torch.Tensor

    @classmethod
    def of_rows(cls, parameter: nn.Parameter, name: str, rows: torch.Tensor) -> Target:
        """Return the target of the indices of the first dimension for which ``rows``, a mask of them, is true."""
        chosen = rows.to(parameter.device)
        if parameter.dim() > 1:
            chosen = chosen.view(-1, *[1] * (parameter.dim() - 1)).expand(parameter.shape)
        return cls(parameter, name, spread_like(chosen, parameter))


class Targets(Protocol):
    """Finds what would go, among the weights or the channels of a model as they are now.

    ``model`` is where the parameters are; ``scoring`` holds the scores that it goes by, and what they remember.
    """

    model: nn.Module
    scoring: Scoring

    def find(self, share: float | None = None) -> Sequence[Target]:
        """Return what goes at ``share``, which is the target unless given."""

    def candidates(self) -> Sequence[Target]:
        """Return everything that can be targeted."""

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan that removes it; ``PlanError`` where the model is no program."""
