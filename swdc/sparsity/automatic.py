"""``a="auto"``: the norm of what is targeted follows a set course to zero, whatever the network and the optimizer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.distributed import Together
from swdc.sparsity.method import gradient_of
from swdc.sparsity.ownership import rates_of
from swdc.sparsity.pulling import change_all_, fade_all_
from swdc.sparsity.targets import Target

AUTO = "auto"
POWER = 4
ROUNDS = 5
"""Steps of Newton's method; what is left over after them is taken away by a factor near one."""


def course(s: int, steps: int) -> float:
    """Return what is left after step ``s`` of the share of the norm at the start: ``(1 - s / (steps - 1))^4``.

    It is exactly zero at the last step, ``s = steps - 1``, and from then on.
    """
    return max(0.0, 1 - s / (steps - 1)) ** POWER if steps > 1 else 0.0


class AutomaticPenalty:
    """Shrinks what is targeted after each step of the optimizer, by as much as the course asks for.

    What is controlled is the share ``|w*| / |w|`` of the norm of all parameters that can be targeted which lies in
    what is targeted. It has no scale, so that neither the size of the weights, nor the rate, nor the kind of the
    optimizer matters: if gradients push harder, more is taken away. The course starts at the share that the first
    step of the optimizer leaves; where training itself keeps below the course, nothing is shrunk.

    The gradients of what is targeted fade along the same course, and none of them exceeds the largest of what is kept.
    Before a batch norm, a filter whose weights are ``c`` times as small has gradients ``1 / c`` times as large, up to
    hundreds of times at zero, and more where dead filters follow each other: single steps would throw such weights
    above all others, where they stay in the place of those that work. Gains and offsets of norms (``steady``, by their
    ids) have no such gradients, and keep them: they are to come back while they can.

    The same amount is taken from the magnitude of each targeted weight (the proximal map of the L1 norm): the small
    ones become zero and stay there, while those next to the threshold lose little, and may still come back.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: Optimizer, steady: Collection[int] = ()) -> None:
        self._parameters, self._optimizer, self._steady = list(parameters), optimizer, steady
        self._together = Together(self._parameters)
        self._start: torch.Tensor | None = None
        self._due: tuple[Sequence[Target], float] = ((), 1.0)
        self._amount, self._rate = torch.zeros(()), torch.zeros(())

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Let gradients fade, and note what to shrink; ``strength`` is what the course leaves of the share."""
        fading = [target for target in targets if id(target.parameter) not in self._steady]
        if fading:
            fade_all_(fading, strength, self._steepest(targets))
        self._due = targets, strength

    def follow(self) -> None:
        """Shrink it, once."""
        (targets, left), self._due = self._due, ((), 1.0)
        if not targets:
            return
        self._rate = torch.as_tensor(rates_of(self._optimizer)[id(targets[0].parameter)], dtype=torch.float64)
        if left == 0:
            self._amount = torch.tensor(math.inf)
            change_all_(targets, torch.zeros_like)
            return
        magnitudes = _wide([_magnitudes(target, self._together) for target in targets])
        aimed, rest = self._norm(magnitudes), self._norm(_wide(self._others(targets, self._parameters)))
        if self._start is None:
            self._start, self._amount = aimed / torch.hypot(aimed, rest), torch.zeros_like(aimed)
            return
        share = left * self._start
        aim = rest * share / (1 - share.square()).sqrt()
        self._amount, factor = self._threshold(magnitudes, aimed, aim)
        change_all_(targets, partial(_shrunk, amount=self._amount, factor=factor))

    def _threshold(
        self, magnitudes: list[torch.Tensor], norm: torch.Tensor, aim: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what to take from all magnitudes, and then by what to multiply them, so that their norm is the aim.

        The norm is convex in what is taken, so that Newton's method comes near from below and never takes too much.
        """
        amount = torch.zeros_like(norm)
        for _ in range(ROUNDS):
            total = self._together.sum_(_total(_less(magnitudes, amount)))
            amount = amount + torch.where(norm > aim, (norm - aim) * norm / total, 0.0)
            norm = self._norm(_less(magnitudes, amount))
        return amount, torch.where(norm > aim, aim / norm, 1.0)

    def _steepest(self, targets: Sequence[Target]) -> torch.Tensor:
        """Return the largest gradient of what is not targeted; infinity where that has none. Collective."""
        gradients = [None if p.grad is None else gradient_of(p) for p in self._parameters]
        parts = [part for part in self._others(targets, gradients) if part.numel()]  # torch has no maximum of nothing
        norms = [norm.double() for norm in torch._foreach_norm(parts, math.inf)] if parts else []
        least = torch.zeros((), dtype=torch.float64, device=self._parameters[0].device)
        most = self._together.max_(torch.stack([least, *norms]).max())
        return torch.where(most == 0, math.inf, most)

    def _others(self, targets: Sequence[Target], tensors: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
        """Return of tensors like all parameters what is not targeted, and zeros, as far as this process counts them."""
        found = {id(target.parameter): target.chosen for target in targets}
        return [
            _without(tensor, found.get(id(parameter)), self._together)
            for parameter, tensor in zip(self._parameters, tensors, strict=True)
            if tensor is not None
        ]

    def _norm(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Return the Euclidean norm of tensors together, over all processes; collective."""
        squares = torch.stack([norm.double() for norm in torch._foreach_norm(parts)]).square().sum()
        return self._together.sum_(squares).sqrt()

    def coefficient(self, mu: float) -> float:
        """Return the ``a`` with which the proximal penalty of the L1 norm shrinks as much as the last step did."""
        amount, rate = float(self._amount), float(self._rate)
        return amount / (rate * mu) if rate else math.inf if amount else 0.0

    def state_dict(self) -> dict[str, float]:
        """Return where the course starts."""
        return {} if self._start is None else {"start": float(self._start)}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state that ``state_dict`` returned."""
        device = self._parameters[0].device
        self._start = torch.tensor(state["start"], dtype=torch.float64, device=device) if "start" in state else None


def _magnitudes(target: Target, together: Together) -> torch.Tensor:
    """Return the magnitudes of what is targeted, and zeros, of the part that this process counts."""
    weight, chosen = together.own(target.parameter), together.own(target.chosen)
    return weight.abs() * chosen


def _without(tensor: torch.Tensor, chosen: torch.Tensor | None, together: Together) -> torch.Tensor:
    if chosen is None:
        return together.own(tensor)
    return together.own(tensor) * ~together.own(chosen)


def _less(magnitudes: Sequence[torch.Tensor], amount: torch.Tensor) -> list[torch.Tensor]:
    return [(part - amount.to(part.dtype)).clamp_(min=0) for part in magnitudes]


def _total(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([norm.double() for norm in torch._foreach_norm(parts, 1)]).sum()


def _wide(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [part.float() if part.element_size() < 4 else part for part in parts]


def _shrunk(weight: torch.Tensor, amount: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    shrunk = (weight.abs() - amount.to(weight.dtype)).clamp_(min=0) * factor.to(weight.dtype)
    return weight.sign() * shrunk
