"""Selective Weight Decay (Tessier et al. 2022): pull what would be pruned now towards zero, harder at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.errors import PlanError
from swdc.sparsity.method import Method
from swdc.sparsity.norms import Norm, find_norm
from swdc.sparsity.penalties import GRADIENT, penalty_of
from swdc.sparsity.saliency import Saliency
from swdc.sparsity.schedules import Schedule, find_schedule
from swdc.sparsity.targets import Target, targets_of


class SWD(Method):
    """Selective Weight Decay, in any training loop::

        swd = SWD(program, target=0.9, a_min=1e2, a_max=1e6, steps=epochs * len(loader))
        ...
        loss.backward()
        swd.step()            # adds a(s) * mu * w to the gradient of everything targeted (eq. 2)
        optimizer.step()
        ...
        slim = swdc.slim(program, swd.plan())

    ``structure="channels"`` targets the channels that a plan with this budget would remove now: one threshold on the
    gains |gamma| of the batch norms that decide, such that the parameters left are at most ``1 - target`` of all;
    their gamma and beta are pulled. Without batch norms, the norm of the filters decides and the filters are pulled.
    ``structure="filters"`` is the same, but all that writes a channel is pulled (filters, biases, gamma and beta), and
    channels without a batch norm go as well, by the norm of their filters. ``structure="heads"`` targets a share of
    the heads of all attentions, by the norm of what writes them, which is pulled.
    ``structure="weights"`` targets the ``target`` share of all weights outside norms with the least magnitude
    (eq. 4), on any module.

    The coefficient grows as ``a(s) = a_min (a_max / a_min)^(s / steps)`` (eq. 3) and stays at ``a_max`` after
    ``steps`` steps. ``mu`` is the weight decay coefficient of eq. 2; the usual decay itself is the optimizer's.
    The set is found anew every ``refresh`` steps from the weights as they are.

    ``penalty="gradient"`` is the paper's. ``penalty="proximal"`` leaves the gradients alone and divides what is
    targeted by ``1 + lr a mu`` after each step of the ``optimizer``, with the rate of its group of parameters: the
    same pull to first order in the rate, but stable at any ``a``, and apart from momentum and moments. The gradient
    form diverges where ``lr a mu`` exceeds 2; with SGD given as ``optimizer`` its ``a mu`` is held at ``1 / lr``.

    ``criterion`` scores single weights (``swdc.sparsity.saliency``), ``norm`` is what is pulled on
    (``swdc.sparsity.norms``), and ``schedule`` how ``a`` grows (``swdc.sparsity.schedules``).

    Call ``step`` once for each step of the optimizer, after gradients are accumulated, unscaled and clipped, so that
    the pull is neither scaled nor clipped. Save the state after the optimizer's step.

    Raises ``PlanError`` for arguments out of range, and where nothing can be targeted.
    """

    name = "swd"

    def __init__(
        self, model: nn.Module, target: float, structure: str = "channels", *, a_min: float, a_max: float,
        steps: int | None = None, mu: float = 5e-4, penalty: str = GRADIENT,
        norm: str | Norm | Callable[[torch.Tensor], torch.Tensor] = "l2", schedule: str | Schedule = "exponential",
        criterion: str | Saliency = "magnitude", refresh: int = 1, optimizer: Optimizer | None = None,
        ignore: Iterable[str] = (),
    ) -> None:  # fmt: skip
        for name, value in (("a_min", a_min), ("a_max", a_max), ("mu", mu)):
            if not 0 < value < float("inf"):
                raise PlanError(f"expected {name} as a positive number, got {value}")
        if not isinstance(refresh, int) or isinstance(refresh, bool) or refresh < 1:
            raise PlanError(f"expected refresh as a whole number of steps, at least 1, got {refresh!r}")
        chosen = find_norm(norm)
        self._penalty, self._schedule = penalty_of(penalty, chosen, optimizer), find_schedule(schedule)
        targets = targets_of(model, target, structure, ignore, criterion)
        settings = {
            "target": target, "structure": structure, "a_min": a_min, "a_max": a_max, "mu": mu, "penalty": penalty,
            "norm": chosen.name, "schedule": getattr(schedule, "__name__", schedule), "criterion": targets.scoring.name,
            "refresh": refresh,
        }  # fmt: skip
        super().__init__(targets, steps, optimizer, settings)
        self.a_min, self.a_max, self.mu, self.refresh = a_min, a_max, mu, refresh
        self._chosen: list[Target] = []

    @property
    def a(self) -> float:
        """The coefficient of the next step (eq. 3, unless another schedule was asked for)."""
        return self._schedule(self.s, self.a_min, self.a_max, self.steps)

    def _act(self) -> None:
        """Add the gradient of the penalty, or note what to shrink."""
        self._targets.scoring.observe()
        if self.s % self.refresh == 0 or not self._chosen:
            self._chosen = self._pulled()
        self._penalty.act(self._chosen, self.a * self.mu)

    def _pulled(self) -> list[Target]:
        """Return what is pulled towards zero now."""
        return self.targeted()

    @torch.no_grad()
    def _follow(self) -> None:
        """Shrink what is targeted, with ``penalty="proximal"``."""
        self._penalty.follow()

    def state_dict(self) -> dict[str, Any]:
        """Return the state: steps taken, settings, the scores that a criterion remembers, and the set that stands."""
        stands = self._chosen if self.s % self.refresh else []
        return {
            **super().state_dict(),
            "chosen": {target.name: target.chosen.clone() for target in stands},
            "scores": self._targets.scoring.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state_dict`` returned; ``PlanError`` if its settings are not these."""
        super().load_state_dict(state)
        self._targets.scoring.load_state_dict(state.get("scores", {}))
        parameters = self._ownership.parameters
        self._chosen = [
            Target(parameters[name], name, chosen.to(parameters[name].device, copy=True))
            for name, chosen in state.get("chosen", {}).items()
        ]
