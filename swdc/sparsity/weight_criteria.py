"""Saliency: functions that score single weights during training. The lowest scores are removed first.

A function of one tensor, the weight, scores the current weights whenever scores are needed. A function of three,
``(weight, gradient, before)``, scores them once a step, from the gradient of the loss alone and from its own scores of
the step before (``None`` at the first step). All tensors, and the result, have the shape of the weight.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from swdc.errors import PlanError
from swdc.sparsity.arguments import by_name

Saliency = Callable[..., torch.Tensor]


def magnitude(weight: torch.Tensor) -> torch.Tensor:
    """Return |w|."""
    return weight.abs()


def gradient_weight(weight: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
    """Return |g w|: by how much the loss changes, to first order, when a weight is set to zero (Mozer 1989)."""
    return (gradient * weight).abs()


def movement(weight: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    """Return the sum of -w g over all steps: how far training has moved a weight away from zero (Sanh et al. 2020)."""
    moved = -(weight * gradient)
    return moved if before is None else moved.add_(before)


SALIENCIES: dict[str, Saliency] = {"magnitude": magnitude, "gradient_weight": gradient_weight, "movement": movement}


def find_saliency(criterion: str | Saliency) -> Saliency:
    """Return the saliency that the argument ``criterion`` names, or is; ``PlanError`` for anything else."""
    functions = ", or a function of a weight, or of a weight, its gradient and its previous scores"
    found = by_name("criterion", SALIENCIES, criterion, functions)
    if len(_positional(found)) not in (1, 3):
        raise PlanError(
            f"expected a criterion of one argument (weight) or of three (weight, gradient, before), got "
            f"{len(_positional(found))} arguments of {name_of(found)}"
        )
    return found


def name_of(saliency: Callable[..., Any]) -> str:
    """Return the name of a saliency or of another criterion, as settings hold it."""
    return str(getattr(saliency, "__name__", type(saliency).__name__))


def reads_gradients(saliency: Saliency) -> bool:
    """Whether a saliency is a function of the weight, the gradient and the previous scores."""
    return len(_positional(saliency)) == 3


def _positional(saliency: Saliency) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(saliency).parameters
    except ValueError:  # a function of torch, such as torch.square
        return ["weight"]
    return [name for name, p in parameters.items() if p.kind in kinds]
