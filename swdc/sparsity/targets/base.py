"""What would go now: parts of parameters, and the plan that removes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from swdc.distributed import is_spread, spread_like
from swdc.groups import Ids
from swdc.plan import Plan
from swdc.sparsity.targets.scoring import Scoring


@dataclass(frozen=True)
class Target:
    """The part of one parameter that would go: a mask of its shape, or indices along its first dimension.

    Of a parameter that lies in parts over processes it is a mask in the same parts (a DTensor).
    """

    parameter: nn.Parameter
    name: str
    chosen: torch.Tensor

    @classmethod
    def of_rows(cls, parameter: nn.Parameter, name: str, rows: Ids) -> Target:
        """Return the target of some indices, each given once, of the first dimension."""
        chosen = torch.from_numpy(rows).to(parameter.device)
        if is_spread(parameter):
            mask = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
            chosen = spread_like(mask.index_fill_(0, chosen, True), parameter)
        return cls(parameter, name, chosen)


class Targets(Protocol):
    """Finds what would go, among the weights or the channels of a model as they are now.

    ``model`` is where the parameters are; ``scoring`` holds the scores that it goes by, and what they remember.
    """

    model: nn.Module
    scoring: Scoring

    def find(self, share: float | None = None) -> list[Target]:
        """Return what goes at ``share``, which is the target unless given."""

    def candidates(self) -> list[Target]:
        """Return everything that can be targeted."""

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan that removes it; ``PlanError`` where the model is no program."""
