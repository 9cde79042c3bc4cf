"""With which strength targets are pulled: the coefficient, ``mu`` and the rate of each parameter group."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from swdc.sparsity.penalties.bearable import bearable, is_adaptive, is_plain, limit
from swdc.sparsity.targets import Target

MU = 5e-4
"""The weight decay of the paper on CIFAR, taken where neither an argument nor an optimizer says another."""

_log = logging.getLogger("swdc")


class Pulled(NamedTuple):
    """Targets of one parameter group: their rate ``lr``, the strength ``a mu`` asked for, and the most that is held."""

    targets: Sequence[Target]
    rate: float | torch.Tensor
    strength: float
    most: float


class Strengths:
    """Knows ``mu`` and the rate of every target, and what the optimizer can bear.

    ``mu`` is the given one. If none is given, it is the weight decay of the target's parameter group; where that is
    zero, the largest weight decay of all groups; and if there is none at all, 5e-4.
    """

    def __init__(self, optimizer: Optimizer | None, mu: float | None, hold: bool) -> None:
        self._optimizer = optimizer
        groups: Sequence[Mapping[str, Any]] = () if optimizer is None else optimizer.param_groups
        decays = [float(group.get("weight_decay", 0.0)) for group in groups]
        usual = max(decays, default=0.0) or MU
        self.mus = [mu] if mu is not None else sorted({decay or usual for decay in decays}) or [MU]
        self._usual, self._given = usual, mu
        self._holds = hold and is_plain(optimizer)
        self.adapts = hold and is_adaptive(optimizer)
        """Whether the pull follows the steps of Adam, in place of entering its gradients."""
        self._last: tuple[Sequence[Target], list[tuple[int, list[Target]]]] = ((), [])
        self._told = False

    @property
    def way(self) -> str:
        """How the pull is held, as settings hold it: by the limits of an optimizer's class, or not at all."""
        return type(self._optimizer).__name__ if self._holds or self.adapts else "none"

    def of(self, targets: Sequence[Target], a: float) -> Iterator[Pulled]:
        """Yield the targets of each parameter group with what pulls them; all together without an optimizer."""
        if self._optimizer is None:
            yield Pulled(targets, 1.0, a * self.mus[0], math.inf)
            return
        groups = self._optimizer.param_groups
        for number, those in self._grouped(targets, groups):
            yield Pulled(those, groups[number]["lr"], a * self._mu(groups[number]), self._most(groups[number]))

    def held(self, a: float) -> float:
        """Return the coefficient that acts when ``a`` is asked for: the least over the parameter groups."""
        if not self._holds or self._optimizer is None:
            return a
        return min([a, *(self._most(group) / self._mu(group) for group in self._optimizer.param_groups)])

    def tell(self, step: int, asked: float, held: float) -> None:
        """Say in the log, once, that the pull is held."""
        if self._told or held >= asked or self._optimizer is None:
            return
        self._told = True
        bound = min(limit(group) for group in self._optimizer.param_groups)
        _log.warning(
            "step %d: SWD asks for a = %.4g, and %s bears lr a mu below %.3g only; a is held at %.4g now, and further "
            "on wherever it would exceed what the rate allows (swd.a is what acts; hold=False takes the schedule as it "
            "is, penalty='proximal' needs no bound)", step, asked, type(self._optimizer).__name__, bound, held,
        )  # fmt: skip

    def _mu(self, group: Mapping[str, Any]) -> float:
        return self._given if self._given is not None else float(group.get("weight_decay", 0.0)) or self._usual

    def _most(self, group: Mapping[str, Any]) -> float:
        """Return the largest ``a mu`` for a parameter group."""
        rate = float(group["lr"]) if self._holds else 0.0
        return bearable(group) / rate if rate > 0 else math.inf

    def _grouped(
        self, targets: Sequence[Target], groups: Sequence[Mapping[str, Any]]
    ) -> list[tuple[int, list[Target]]]:
        """Return the targets by the number of their parameter group; remembered while they are the same objects."""
        if targets is self._last[0]:
            return self._last[1]
        number_of = {id(p): number for number, group in enumerate(groups) for p in group["params"]}
        found: dict[int, list[Target]] = {}
        for target in targets:
            found.setdefault(number_of[id(target.parameter)], []).append(target)
        self._last = targets, list(found.items())
        return self._last[1]
