"""How the penalty of eq. 2 acts on the targets: by the gradient, or by a shrinkage after the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch.optim import Optimizer

from swdc.errors import PlanError
from swdc.sparsity.arguments import check_optimizer
from swdc.sparsity.penalties.adaptive import AdaptivePenalty
from swdc.sparsity.penalties.norms import L2, Norm
from swdc.sparsity.penalties.partial_updates import Pull, change_all_
from swdc.sparsity.penalties.strengths import Strengths
from swdc.sparsity.targets import Target

GRADIENT, PROXIMAL = "gradient", "proximal"
PENALTIES = (GRADIENT, PROXIMAL)


class Penalty(Protocol):
    """Acts before the optimizer's step, or after it."""

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Act on the gradients of the targets; ``strength`` is ``a``, or the course if ``a="auto"``."""

    def follow(self) -> None:
        """Act on the weights after the optimizer's step."""


def penalty_of(name: str, norm: Norm, optimizer: Optimizer | None, strengths: Strengths) -> Penalty:
    """Return a penalty by its name; ``PlanError`` for an unknown one, or without the optimizer that it needs."""
    if name not in PENALTIES:
        raise PlanError(f"expected a penalty of {list(PENALTIES)}, got {name!r}")
    if name == GRADIENT:
        if strengths.adapts and optimizer is not None:
            return AdaptivePenalty(norm.gradient, strengths, optimizer)
        return GradientPenalty(norm, strengths)
    check_optimizer(optimizer, f"whose steps penalty={name!r} follows")
    if norm.proximal is None:
        raise PlanError(
            f"expected a norm with a proximal map for penalty='proximal', but {norm.name} has none; give a "
            f"swdc.sparsity.penalties.norms.Norm that has one, or take penalty='gradient'"
        )
    return ProximalPenalty(norm.proximal, strengths)


class GradientPenalty:
    """Adds ``a mu w`` to the gradients; for another norm than L2, its gradient takes the place of ``w``.

    Where ``strengths`` hold the pull, it adds to the gradient of a weight at most ``most |w|``.
    """

    def __init__(self, norm: Norm, strengths: Strengths) -> None:
        self._gradient, self._is_square, self._strengths = norm.gradient, norm is L2, strengths
        self._last: Sequence[Target] = ()
        self._pulls: list[Pull] = []

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Add to the gradients; ``strength`` is ``a``."""
        found = list(self._strengths.of(targets, strength))
        if targets is not self._last:
            self._last, self._pulls = targets, [Pull(pulled.targets) for pulled in found]
        for pulled, pull in zip(found, self._pulls, strict=True):
            if pulled.strength <= pulled.most:
                pull.add_(pulled.strength, self._gradient)
            elif self._is_square:
                pull.add_(pulled.most, self._gradient)
            else:
                pull.add_(1.0, partial(self._held, strength=pulled.strength, most=pulled.most))

    def _held(self, weight: torch.Tensor, strength: float, most: float) -> torch.Tensor:
        """Return ``strength`` times the gradient of the norm, within ``most`` times the magnitude of the weight."""
        bound = weight.abs() * most
        return (self._gradient(weight) * strength).clamp(-bound, bound)

    def follow(self) -> None:
        """Do nothing, because ``act`` has done everything."""


class ProximalPenalty:
    """Divides weights by ``1 + lr a mu`` after the optimizer's step: the proximal map of ``lr a mu w^2 / 2``.

    The weights that were targeted before the step are shrunk, with the learning rate ``lr`` of their parameter group.
    The shrinkage does not enter momentum, moments or the norm of the gradient.
    """

    def __init__(
        self, proximal: Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor], strengths: Strengths
    ) -> None:
        self._proximal, self._strengths = proximal, strengths
        self._due: tuple[Sequence[Target], float] = ((), 0.0)

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Note what to shrink; this replaces what was noted for a step that was then skipped."""
        self._due = targets, strength

    def follow(self) -> None:
        """Shrink the noted targets, once."""
        (targets, a), self._due = self._due, ((), 0.0)
        if targets:
            for pulled in self._strengths.of(targets, a):
                change_all_(pulled.targets, partial(self._shrunk, length=pulled.rate * pulled.strength))

    def _shrunk(self, weight: torch.Tensor, length: float | torch.Tensor) -> torch.Tensor:
        return self._proximal(weight, length)
