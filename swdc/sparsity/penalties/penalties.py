"""How the penalty of eq. 2 acts on the targets: by the gradient, or by a shrinkage after the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch.optim import ASGD, SGD, Optimizer

from swdc.errors import PlanError
from swdc.sparsity.arguments import check_optimizer
from swdc.sparsity.penalties.norms import Norm
from swdc.sparsity.penalties.partial_updates import Pull, change_all_
from swdc.sparsity.same_parameters import rates_of
from swdc.sparsity.targets import Target

GRADIENT, PROXIMAL = "gradient", "proximal"
PENALTIES = (GRADIENT, PROXIMAL)


class Penalty(Protocol):
    """Acts before the optimizer's step, or after it."""

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Act on the gradients of the targets; ``strength`` is ``a mu``, or the course if ``a="auto"``."""

    def follow(self) -> None:
        """Act on the weights after the optimizer's step."""


def penalty_of(name: str, norm: Norm, optimizer: Optimizer | None) -> Penalty:
    """Return a penalty by its name; ``PlanError`` for an unknown one, or without the optimizer that it needs."""
    if name not in PENALTIES:
        raise PlanError(f"expected a penalty of {list(PENALTIES)}, got {name!r}")
    if optimizer is not None or name == PROXIMAL:
        check_optimizer(optimizer, f"whose {'steps' if name == PROXIMAL else 'rate'} penalty={name!r} follows")
    if name == GRADIENT or optimizer is None:
        return GradientPenalty(norm.gradient, optimizer)
    if norm.proximal is None:
        raise PlanError(
            f"expected a norm with a proximal map for penalty='proximal', but {norm.name} has none; give a "
            f"swdc.sparsity.penalties.norms.Norm that has one, or take penalty='gradient'"
        )
    return ProximalPenalty(norm.proximal, optimizer)


class GradientPenalty:
    """Adds ``a mu w`` to the gradients; for another norm than L2, its gradient takes the place of ``w``.

    Plain gradient descent diverges if the learning rate times ``a mu`` exceeds 2. If the optimizer is known to be plain
    (SGD, ASGD), ``a mu`` is limited to one over the rate, with which one step takes a weight to zero. Adaptive
    optimizers need no limit, because they divide the scale of the gradient out.
    """

    def __init__(self, gradient: Callable[[torch.Tensor], torch.Tensor], optimizer: Optimizer | None) -> None:
        self._gradient = gradient
        self._descent = optimizer if isinstance(optimizer, SGD | ASGD) else None
        self._last: Sequence[Target] = ()
        self._pull = Pull(())

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Add to the gradients."""
        if self._descent is not None:
            for rate, those in _by_rate(targets, self._descent):
                Pull(those).add_(strength if rate * strength <= 1 else 1 / float(rate), self._gradient)
            return
        if targets is not self._last:
            self._last, self._pull = targets, Pull(targets)
        self._pull.add_(strength, self._gradient)

    def follow(self) -> None:
        """Do nothing, because ``act`` has done everything."""


class ProximalPenalty:
    """Divides weights by ``1 + lr a mu`` after the optimizer's step: the proximal map of ``lr a mu w^2 / 2``.

    The weights that were targeted before the step are shrunk, with the learning rate ``lr`` of their parameter group.
    The shrinkage does not enter momentum, moments or the norm of the gradient.
    """

    def __init__(
        self, proximal: Callable[[torch.Tensor, float | torch.Tensor], torch.Tensor], optimizer: Optimizer
    ) -> None:
        self._proximal, self._optimizer = proximal, optimizer
        self._due: tuple[Sequence[Target], float] = ((), 0.0)

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Note what to shrink; this replaces what was noted for a step that was then skipped."""
        self._due = targets, strength

    def follow(self) -> None:
        """Shrink the noted targets, once."""
        (targets, strength), self._due = self._due, ((), 0.0)
        for rate, those in _by_rate(targets, self._optimizer):
            change_all_(those, partial(self._shrunk, length=rate * strength))

    def _shrunk(self, weight: torch.Tensor, length: float | torch.Tensor) -> torch.Tensor:
        return self._proximal(weight, length)


def _by_rate(targets: Sequence[Target], optimizer: Optimizer) -> list[tuple[float | torch.Tensor, list[Target]]]:
    """Return the targets grouped by the learning rate of their parameter group."""
    rates, found = rates_of(optimizer), dict[int, tuple[float | torch.Tensor, list[Target]]]()
    for target in targets:
        rate = rates[id(target.parameter)]
        found.setdefault(id(rate), (rate, []))[1].append(target)
    return list(found.values())
