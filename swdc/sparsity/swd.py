"""Selective Weight Decay (Tessier et al. 2022): pull what would be pruned now towards zero, harder at every step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from swdc.errors import PlanError
from swdc.sparsity.method import Method, gradient_of
from swdc.sparsity.schedules import exponential
from swdc.sparsity.targets import targets_of


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
    The set is found anew at every step from the weights as they are, so that all state is the number of steps.

    Raises ``PlanError`` for arguments out of range, and where nothing can be targeted.
    """

    def __init__(
        self, model: nn.Module, target: float, structure: str = "channels", *, a_min: float, a_max: float, steps: int,
        mu: float = 5e-4, ignore: Iterable[str] = (),
    ) -> None:  # fmt: skip
        for name, value in (("a_min", a_min), ("a_max", a_max), ("mu", mu)):
            if not 0 < value < float("inf"):
                raise PlanError(f"expected {name} as a positive number, got {value}")
        settings = {"target": target, "a_min": a_min, "a_max": a_max, "mu": mu}
        super().__init__(targets_of(model, target, structure, ignore), steps, None, settings)
        self.a_min, self.a_max, self.mu = a_min, a_max, mu

    @property
    def a(self) -> float:
        """The coefficient of the next step (eq. 3)."""
        return exponential(self.s, self.a_min, self.a_max, self.steps)

    def _act(self) -> None:
        """Add the gradient of the penalty to the gradients."""
        pull = self.a * self.mu
        for target in self.targeted():
            weight = target.parameter
            gradient = gradient_of(weight)
            if target.chosen.dtype == torch.bool:
                gradient.addcmul_(weight, target.chosen.to(weight.dtype), value=pull)
            else:
                gradient.index_add_(0, target.chosen, weight.index_select(0, target.chosen), alpha=pull)
