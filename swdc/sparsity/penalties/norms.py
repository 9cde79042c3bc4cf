"""Norms of the penalty: the term that each targeted weight adds to the loss, its gradient and its proximal map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from swdc.errors import PlanError, told_as
from swdc.sparsity.arguments import by_name

Tensor = torch.Tensor
Step = float | torch.Tensor


@dataclass(frozen=True)
class Norm:
    """A penalty on single weights; the three functions work element by element, on tensors of any shape.

    ``value(w)`` is the term that is added to the loss, ``gradient(w)`` is its derivative. ``proximal(w, t)`` is the
    ``v`` that minimises ``(v - w)^2 / 2 + t value(v)``, for ``t >= 0``: a step of length ``t`` that never overshoots.
    It is ``None`` for a norm without a proximal map.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    proximal: Callable[[Tensor, Step], Tensor] | None


def _shrunk(w: Tensor, t: Step) -> Tensor:
    return w / (1 + t)


def _soft_threshold(w: Tensor, t: Step) -> Tensor:
    return w.sign() * (w.abs() - t).clamp_(min=0)


def _smooth_value(w: Tensor) -> Tensor:
    return torch.where(w.abs() <= 1, w.square(), w.abs())


def _smooth_gradient(w: Tensor) -> Tensor:
    return torch.where(w.abs() <= 1, 2 * w, w.sign())


def _smooth_proximal(w: Tensor, t: Step) -> Tensor:
    """Shrink as the square does below a point, and as |w| does above it, where that costs less."""
    wide = 1 + 2 * t
    return torch.where(w.abs() <= (wide + wide**0.5) / 2, w / wide, w - t * w.sign())


L2 = Norm("l2", lambda w: w.square() / 2, lambda w: w, _shrunk)
"""Half the square, so that its gradient is the weight, as in weight decay."""
L1 = Norm("l1", torch.abs, torch.sign, _soft_threshold)
SMOOTH_L1 = Norm("smooth_l1", _smooth_value, _smooth_gradient, _smooth_proximal)
"""The square within [-1, 1], the magnitude outside, as in the experiments of Tessier et al. (2022)."""

NORMS = {norm.name: norm for norm in (L2, L1, SMOOTH_L1)}


def find_norm(norm: str | Norm | Callable[[Tensor], Tensor]) -> Norm:
    """Return a norm by its name; return a ``Norm`` unchanged; make a norm of a function from weights to values.

    The gradient of such a function comes from autograd, and it has no proximal map.
    """
    others = ", a Norm, or a function of a tensor"
    found: Any = norm if isinstance(norm, Norm) else by_name("norm", NORMS, norm, others)
    if isinstance(found, Norm):
        return found
    return Norm(getattr(found, "__name__", type(found).__name__), found, _gradient_of(found), None)


def _gradient_of(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def gradient(w: Tensor) -> Tensor:
        expected = "a norm that takes weights and returns their values, differentiable, got another function"
        with torch.enable_grad(), told_as(PlanError, expected, "see swdc.sparsity.penalties.norms for examples"):
            given = w.detach().requires_grad_()
            (found,) = torch.autograd.grad(value(given).sum(), given)
        return found

    return gradient
