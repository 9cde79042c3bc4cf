"""``a="auto"``: the share of the targets in the norm follows a set course to zero, for any network and optimizer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.ir.distributed import Together, local
from swdc.sparsity.method import gradient_of
from swdc.sparsity.penalties.partial_updates import change_all_, fade_all_
from swdc.sparsity.same_parameters import rates_of
from swdc.sparsity.selection.bitwise_where import without
from swdc.sparsity.selection.cache_blocks import lines
from swdc.sparsity.targets import Target

AUTO = "auto"
POWER = 4
ROUNDS = 6
"""Steps of Newton's method; a factor near one then takes away the small rest."""


def course(s: int, steps: int) -> float:
    """Return which fraction of the share at the start is left after step ``s``: ``(1 - s / (steps - 1))^4``.

    It is exactly zero at the last step, ``s = steps - 1``, and from then on.
    """
    return max(0.0, 1 - s / (steps - 1)) ** POWER if steps > 1 else 0.0


class AutomaticPenalty:
    """Shrinks the targets after each step of the optimizer, as much as the course asks for.

    The controlled quantity is the share ``|w*| / |w|``: the norm of the targeted weights ``w*`` over the norm of all
    weights ``w`` that can be targeted. The share has no scale, so that neither the size of the weights, nor the
    learning rate, nor the kind of the optimizer matters: if gradients push harder, more is taken away. The course
    starts at the share after the first step of the optimizer. If training itself keeps the share below the course,
    nothing is shrunk.

    The gradients of the targets fade along the same course, and none of them exceeds the largest gradient outside the
    targets. The reason is that a filter before a batch norm has larger gradients the smaller its weights are: a filter
    scaled by ``c`` has gradients scaled by ``1 / c``. Near zero these are hundreds of times as large, and more if dead
    filters follow each other. A single step would throw such weights above all others, and they would take the place of
    weights that work. Gains and biases of norms (``steady`` holds their ids) have no such gradients. They keep theirs,
    so that they can come back for as long as possible.

    Each targeted weight loses the same amount of its magnitude (the proximal map of the L1 norm). Small weights become
    zero and stay zero. Weights next to the threshold lose little, and may still come back.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: Optimizer, steady: Collection[int] = ()) -> None:
        self._parameters, self._optimizer, self._steady = list(parameters), optimizer, steady
        self._together = Together(self._parameters)
        self._start: torch.Tensor | None = None
        self._due: tuple[Sequence[Target], float] = ((), 1.0)
        self._amount, self._rate = torch.zeros(()), torch.zeros(())

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Let gradients fade, and note what to shrink; ``strength`` is the value of ``course``."""
        fading = [target for target in targets if id(target.parameter) not in self._steady]
        if fading:
            fade_all_(fading, strength, self._steepest(targets))
        self._due = targets, strength

    def follow(self) -> None:
        """Shrink the noted targets, once."""
        (targets, left), self._due = self._due, ((), 1.0)
        if not targets:
            return
        self._rate = torch.as_tensor(rates_of(self._optimizer)[id(targets[0].parameter)], dtype=torch.float64)
        if left == 0:
            self._amount = torch.tensor(math.inf)
            change_all_(targets, torch.zeros_like)
            return
        magnitudes, rest = self._magnitudes(targets)
        last = self._amount.to(rest)
        amount = torch.where(last.isfinite(), last, 0.0)  # that of the last step is near, and two rounds are enough
        total, norm = self._left(magnitudes, amount)
        if self._start is None:
            self._start, self._amount = norm / torch.hypot(norm, rest), amount
            return
        share = left * self._start
        aim = rest * share / (1 - share.square()).sqrt()
        for _ in range(ROUNDS):  # the norm is convex in the amount: no round ends beyond the aim, wherever it begins
            if norm.is_cpu and self._is_met(norm, aim, amount):  # on an accelerator this would make the host wait
                break
            moved = torch.where(total > 0, (norm - aim) * norm / total, -amount)
            amount = (amount + moved).clamp_(min=0)
            total, norm = self._left(magnitudes, amount)
        self._amount = amount
        change_all_(targets, partial(_shrunk, amount=amount, factor=torch.where(norm > aim, aim / norm, 1.0)))

    def _is_met(self, norm: torch.Tensor, aim: torch.Tensor, amount: torch.Tensor) -> bool:
        """Whether a norm is the aim, but for rounding errors, or below it with nothing shrunk."""
        return bool(norm <= aim * self._close() and (norm * self._close() >= aim or amount == 0))

    def _close(self) -> float:
        """Return the factor by which a norm may miss the aim: a little more than its rounding error."""
        return 1 + 8 * max(torch.finfo(torch.promote_types(p.dtype, torch.float32)).eps for p in self._parameters)

    def _magnitudes(self, targets: Sequence[Target]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the magnitudes of the targets, zero elsewhere, in parts; and the norm of all others. Collective."""
        magnitudes, norms = list[torch.Tensor](), list[torch.Tensor]()
        for numbers, kept in self._apart(targets, self._parameters):
            magnitudes.append((numbers - kept).abs_())
            norms.append(torch.linalg.vector_norm(kept))
        return magnitudes, self._together.sum_(self._joined(norms).square().sum()).sqrt()

    def _left(self, magnitudes: Sequence[torch.Tensor], amount: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum and the norm of magnitudes after each has lost an amount. Collective."""
        totals, norms = list[torch.Tensor](), list[torch.Tensor]()
        for part in magnitudes:
            left = (part - amount.to(part.dtype)).clamp_(min=0)
            totals.append(left.sum())
            norms.append(torch.linalg.vector_norm(left))
        sums = torch.stack([self._joined(totals).sum(), self._joined(norms).square().sum()])
        total, squares = self._together.sum_(sums)
        return total, squares.sqrt()

    def _steepest(self, targets: Sequence[Target]) -> torch.Tensor:
        """Return the largest magnitude of a gradient outside the targets; infinity if there is none. Collective."""
        gradients = [None if p.grad is None else gradient_of(p) for p in self._parameters]
        ends = [end for _, kept in self._apart(targets, gradients) for end in kept.aminmax()]
        most = self._together.max_(self._joined(ends).abs().max())
        return torch.where(most == 0, math.inf, most)

    def _apart(
        self, targets: Sequence[Target], tensors: Sequence[torch.Tensor | None]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield tensors, one for each parameter, in parts; and the same parts with zeros where they are targeted.

        These are the parts that this process counts, in float32 or wider.
        """
        found = {id(target.parameter): local(target.chosen) for target in targets}
        rests = {id(target.parameter): target.rest for target in targets if target.rest}
        parts, masks = list[torch.Tensor](), list[torch.Tensor]()
        for parameter, tensor in zip(self._parameters, tensors, strict=True):
            if tensor is None or not self._together.counts(tensor) or not (part := local(tensor.detach())).numel():
                continue
            mask, rest = found.get(id(parameter)), rests.get(id(parameter), 0.0)
            parts.append(part if tensor is not parameter or not rest else part - rest)
            masks.append(torch.zeros_like(part, dtype=torch.bool) if mask is None else mask)
        for numbers, chosen in lines(parts, masks):
            wide = numbers.float() if numbers.element_size() < 4 else numbers
            yield wide, without(chosen, wide)

    def _joined(self, numbers: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return numbers and a zero in one tensor."""
        zero = torch.zeros((), dtype=torch.float64, device=self._parameters[0].device)
        return torch.stack([zero, *numbers])

    def coefficient(self, mu: float) -> float:
        """Return the ``a`` with which the proximal penalty of the L1 norm shrinks as much as the last step did."""
        amount, rate = float(self._amount), float(self._rate)
        return amount / (rate * mu) if rate else math.inf if amount else 0.0

    def state_dict(self) -> dict[str, float]:
        """Return the share at which the course starts, once it is known, and the last amount."""
        return {} if self._start is None else {"start": float(self._start), "amount": float(self._amount)}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from a state that ``state_dict`` returned."""
        device = self._parameters[0].device
        self._start = torch.tensor(state["start"], dtype=torch.float64, device=device) if "start" in state else None
        self._amount = torch.tensor(state.get("amount", 0.0), dtype=torch.float64)


def _shrunk(weight: torch.Tensor, amount: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return the soft threshold of weights by an amount, times a factor."""
    most = amount.to(weight.dtype)
    return (weight - torch.minimum(torch.maximum(weight, -most), most)) * factor.to(weight.dtype)
