"""``a="auto"``: the share of the targets in the norm follows a set course to zero, for any network and optimizer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.ir.default_device import cpu_by_default
from swdc.ir.distributed import Together
from swdc.sparsity.penalties.fading import fade_
from swdc.sparsity.penalties.partial_updates import change_all_, lessen_all_
from swdc.sparsity.penalties.shares import Left, Shares
from swdc.sparsity.same_parameters import rates_of
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

    @cpu_by_default()
    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: Optimizer, steady: Collection[int] = ()) -> None:
        self._parameters, self._optimizer, self._steady = list(parameters), optimizer, steady
        self._together = Together(self._parameters)
        self._shares = Shares(self._parameters, self._together)
        self._start: torch.Tensor | None = None
        self._due: tuple[Sequence[Target], float] = ((), 1.0)
        self._amount, self._moved, self._rate = torch.zeros(()), torch.zeros(()), torch.zeros(())

    @cpu_by_default()
    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Let gradients fade, and note what to shrink; ``strength`` is the value of ``course``."""
        if any(id(target.parameter) not in self._steady for target in targets):
            fade_(self._parameters, targets, self._steady, strength, self._together)
        self._due = targets, strength

    @cpu_by_default()
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
        device = self._parameters[0].device
        last = self._amount.to(device, torch.float64)  # that of the last step is near, and mostly one pass is enough
        found = self._shares.left(targets, torch.where(last.isfinite(), last, 0.0), self._moved.to(device) * 2)
        if self._start is None:
            self._start, self._amount = found.norm / torch.hypot(found.norm, found.rest.sqrt()), found.amount
            return
        share = left * self._start
        self._shrink(targets, found, (found.rest / (1 - share.square())).sqrt() * share)

    def _shrink(self, targets: Sequence[Target], found: Left, aim: torch.Tensor) -> None:
        """Take from each magnitude the amount after which the norm is the aim; ``found`` is a first try."""
        before, amount = found.amount, None
        for _ in range(ROUNDS):  # the norm is convex in the amount: no round ends beyond the aim, wherever it begins
            if aim.is_cpu:  # on an accelerator a look at the numbers would make the host wait
                amount = found.amount if self._is_met(found, aim) else found.amount_for(aim, self._close() - 1)
                if amount is not None:
                    break
            found = self._shares.left(targets, found.newton(aim), found.reach)
        self._amount = found.amount if amount is None else amount
        self._moved = torch.maximum(abs(self._amount - before), self._moved.to(before) / 2)
        if amount is not None:
            lessen_all_(targets, amount)
            return
        factor = torch.where(found.norm > aim, aim / found.norm, 1.0)
        change_all_(targets, partial(_shrunk, amount=found.amount, factor=factor))

    def _is_met(self, found: Left, aim: torch.Tensor) -> bool:
        """Whether a norm is the aim, but for rounding errors, or below it with nothing shrunk."""
        close = self._close()
        return bool(found.norm <= aim * close and (found.norm * close >= aim or found.amount == 0))

    def _close(self) -> float:
        """Return the factor by which a norm may miss the aim: a little more than its rounding error."""
        return 1 + 8 * max(torch.finfo(torch.promote_types(p.dtype, torch.float32)).eps for p in self._parameters)

    def coefficient(self, mu: float) -> float:
        """Return the ``a`` with which the proximal penalty of the L1 norm shrinks as much as the last step did."""
        amount, rate = float(self._amount), float(self._rate)
        return amount / (rate * mu) if rate else math.inf if amount else 0.0

    def state_dict(self) -> dict[str, float]:
        """Return the share at which the course starts, once it is known, the last amount, and how far that moved."""
        if self._start is None:
            return {}
        return {"start": float(self._start), "amount": float(self._amount), "moved": float(self._moved)}

    @cpu_by_default()
    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from a state that ``state_dict`` returned."""
        device = self._parameters[0].device
        self._start = torch.tensor(state["start"], dtype=torch.float64, device=device) if "start" in state else None
        self._amount = torch.tensor(state.get("amount", 0.0), dtype=torch.float64)
        self._moved = torch.tensor(state.get("moved", 0.0), dtype=torch.float64)


def _shrunk(weight: torch.Tensor, amount: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return the soft threshold of weights by an amount, times a factor."""
    most = amount.to(weight.dtype)
    return (weight - torch.minimum(torch.maximum(weight, -most), most)) * factor.to(weight.dtype)
