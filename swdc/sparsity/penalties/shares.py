"""The share of the targets in the norm of all weights, and what is left of it after a shrinkage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from swdc.ir.distributed import Together, local
from swdc.sparsity.selection.bitwise_where import apart
from swdc.sparsity.selection.cache_blocks import Buffers, lines
from swdc.sparsity.targets import Target


@dataclass(frozen=True)
class Left:
    """What is left of magnitudes ``m`` of which each has lost ``amount``: sums over those above it, in float64.

    ``total`` is the sum of ``m - amount``, and ``squares`` that of ``(m - amount)^2``. ``near`` is how many magnitudes
    lie within ``reach`` of the amount, and ``count`` how many lie above it, but for half of these. ``rest`` is the sum
    of the squares of all weights that are not targeted.
    """

    amount: torch.Tensor
    reach: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor
    count: torch.Tensor
    near: torch.Tensor
    rest: torch.Tensor

    @property
    def norm(self) -> torch.Tensor:
        """The norm of what is left."""
        return self.squares.sqrt()

    def newton(self, aim: torch.Tensor) -> torch.Tensor:
        """Return the amount of the next round of Newton's method towards the norm ``aim``."""
        moved = torch.where(self.total > 0, (self.norm - aim) * self.norm / self.total, -self.amount)
        return (self.amount + moved).clamp_(min=0)

    def amount_for(self, aim: torch.Tensor, close: float) -> torch.Tensor | None:
        """Return the amount that leaves the norm ``aim``, if these sums determine it well enough; else ``None``.

        Up to the next magnitude, the square of the norm is the parabola ``squares - 2 d total + d^2 count``
        in the step ``d`` from this amount. Each magnitude near the amount changes it by at most ``d^2``. So the square
        is known but for ``near d^2``; that may be the share ``close`` of the square of the aim.
        """
        root = self.total.square() - self.count * (self.squares - aim.square())
        if root < 0 or self.count == 0:
            return None
        step = (self.total - root.sqrt()) / self.count
        known = abs(step) <= self.reach and self.near * step.square() <= close * aim.square()
        return self.amount + step if known and self.amount + step >= 0 else None


_EMPTY = (0.0, 0.0, 0.0, 0.0, 0.0)


class Shares:
    """Measures the targets among all parameters that can be targeted."""

    def __init__(self, parameters: Sequence[nn.Parameter], together: Together) -> None:
        self._parameters, self._together = parameters, together

    def left(self, targets: Sequence[Target], amount: torch.Tensor, reach: torch.Tensor) -> Left:
        """Return what is left of the targets after each magnitude has lost an amount. One pass; collective."""
        device = self._parameters[0].device
        parts = self._parts(targets)
        if device.type == "cpu":
            middle, width, buffers = float(amount), float(reach), Buffers()
            with np.errstate(invalid="ignore"):
                found = [_EMPTY, *(_sums_on_host(*part, middle, width, buffers) for part in parts)]
            rows = torch.tensor(found, dtype=torch.float64)
        else:
            empty = torch.tensor(_EMPTY, dtype=torch.float64, device=device)
            rows = torch.stack([empty, *(_sums_on_device(*part, amount, reach) for part in parts)])
        total, count, near, *norms = rows.unbind(1)
        sums = [total.sum(), count.sum(), near.sum(), *(norm.square().sum() for norm in norms)]
        total, count, near, squares, rest = self._together.sum_(torch.stack(sums)).unbind()
        return Left(amount, reach, total, squares, count, near, rest)

    def _parts(self, targets: Sequence[Target]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the weights, targeted ones less what they become when removed, in float32 or wider; and the masks.

        They are in parts, of those that this process counts.
        """
        found = {id(target.parameter): target for target in targets}
        weights, masks = list[torch.Tensor](), list[torch.Tensor]()
        for parameter in self._parameters:
            if not self._together.counts(parameter) or not (weight := local(parameter.detach())).numel():
                continue
            target = found.get(id(parameter))
            weights.append(weight - target.rest if target is not None and target.rest else weight)
            masks.append(torch.zeros_like(weight, dtype=torch.bool) if target is None else local(target.chosen))
        for numbers, chosen in lines(weights, masks):
            yield (numbers.float() if numbers.element_size() < 4 else numbers), chosen


def _sums_on_host(
    numbers: torch.Tensor, chosen: torch.Tensor, amount: float, reach: float, buffers: Buffers
) -> tuple[float, float, float, float, float]:
    """Return what ``Left`` holds of one part, with norms for the squares."""
    inside, outside = apart(chosen, numbers, buffers)
    magnitudes, marks = inside.abs_().numpy(), buffers.like(numbers, 0, torch.bool).numpy()
    kind = magnitudes.dtype.type
    above, beyond = (
        int(np.count_nonzero(np.greater(magnitudes, kind(end), out=marks))) for end in (amount - reach, amount + reach)
    )
    left = torch.from_numpy(np.subtract(magnitudes, kind(amount), out=magnitudes)).clamp_(min=0)
    norms = float(torch.linalg.vector_norm(left)), float(torch.linalg.vector_norm(outside))
    return float(left.sum()), (above + beyond) / 2, above - beyond, *norms


def _sums_on_device(
    numbers: torch.Tensor, chosen: torch.Tensor, amount: torch.Tensor, reach: torch.Tensor
) -> torch.Tensor:
    """Do what ``_sums_on_host`` does without making the host wait."""
    magnitudes = numbers.abs().masked_fill_(~chosen, 0)
    middle, low, high = (end.to(magnitudes.dtype) for end in (amount, amount - reach, amount + reach))
    above, beyond = (magnitudes > low).sum(), (magnitudes > high).sum()
    left = (magnitudes - middle).clamp_(min=0)
    norms = torch.linalg.vector_norm(left), torch.linalg.vector_norm(numbers.masked_fill(chosen, 0))
    return torch.stack([number.double() for number in (left.sum(), (above + beyond) / 2, above - beyond, *norms)])
