"""Targets: the parts of parameters that would be removed now, and the plan that removes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from swdc.ir.distributed import spread_like
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.targets.weight_scores import Scoring


@dataclass(frozen=True)
class Target:
    """The part of one parameter that would be removed: ``chosen`` is a mask of the parameter's shape.

    A mask of whole rows is a view that stores one number for each row. If the parameter lies in parts over processes,
    the mask lies in the same parts (a DTensor). Removed weights become ``rest``: 0, or -1 for a gain that is read as
    ``1 + gain``; everything that acts on a target takes weights less ``rest``.
    """

    parameter: nn.Parameter
    name: str
    chosen: torch.Tensor
    rest: float = 0.0

    @classmethod
    def of_rows(cls, parameter: nn.Parameter, name: str, rows: torch.Tensor, rest: float = 0.0) -> Target:
        """Return the target of whole rows; ``rows`` is a mask over the first dimension of the parameter."""
        chosen = rows.to(parameter.device)
        if parameter.dim() > 1:
            chosen = chosen.view(-1, *[1] * (parameter.dim() - 1)).expand(parameter.shape)
        return cls(parameter, name, spread_like(chosen, parameter), rest)


def rests_of(model: nn.Module) -> dict[str, float]:
    """Return the values at which tensors of a program write zeros, by name, if they are not zero."""
    groups = model.groups if isinstance(model, Program) else ()
    return {member.tensor: member.rest for group in groups for member in group.members if member.rest}


class Targets(Protocol):
    """Finds the weights or the channels of a model that would be removed now.

    ``model`` holds the parameters; ``scoring`` holds the scores that decide, and those remembered from earlier steps.
    """

    model: nn.Module
    scoring: Scoring

    def find(self, share: float | None = None) -> Sequence[Target]:
        """Return what would be removed now at ``share``, by default the target share."""

    def candidates(self) -> Sequence[Target]:
        """Return everything that can be targeted."""

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan that removes it; ``PlanError`` if the model is not a program."""
