"""Uniform growing decay: the ablation of Tessier et al. (2022), SWD without its selectivity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from torch import nn
from torch.optim import Optimizer

from swdc.plan import Plan
from swdc.sparsity.baselines.checking import check_positive
from swdc.sparsity.baselines.decay import add_decay
from swdc.sparsity.method import Method
from swdc.sparsity.schedules import exponential
from swdc.sparsity.targets import targets_of


class UniformDecay(Method):
    """Let the decay of everything that could go grow as that of SWD, and remove the least at the end::

        method = UniformDecay(program, 0.9, "weights", a_min=1e-1, a_max=1e5, steps=steps)
        ...
        method.remove_()

    The ablation of section 4.8 of Tessier et al. (2022): ``a(s) * mu * w`` is added to the gradient of all weights
    outside norms (``structure="weights"``), or of all gains and shifts that decide over a channel (``"channels"``;
    without batch norms, of all filters), whether they are targeted or not. Nothing is removed before ``remove_``.

    Raises ``PlanError`` for arguments out of range, and where nothing can go.
    """

    name: ClassVar[str] = "uniform_decay"

    def __init__(
        self, model: nn.Module, target: float, structure: str = "weights", *, a_min: float, a_max: float, steps: int,
        mu: float = 5e-4, optimizer: Optimizer | None = None, ignore: Iterable[str] = (),
    ) -> None:  # fmt: skip
        for name, value in (("a_min", a_min), ("a_max", a_max), ("mu", mu)):
            check_positive(name, value)
        patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        settings = {
            "method": self.name, "target": target, "structure": structure, "a_min": a_min, "a_max": a_max, "mu": mu,
            "ignore": list(patterns),
        }  # fmt: skip
        super().__init__(targets_of(model, target, structure, patterns), steps, optimizer, settings)
        self.a_min, self.a_max, self.mu = a_min, a_max, mu
        self._decaying = self._targets.candidates()

    @property
    def a(self) -> float:
        """The coefficient of the next step (eq. 3)."""
        return exponential(self.s, self.a_min, self.a_max, self.steps)

    def _act(self) -> None:
        """Add the decay to the gradients."""
        for target in self._decaying:
            add_decay(target, self.a * self.mu)

    def plan(self) -> Plan:
        """Return the plan that removes what is targeted now."""
        plan = super().plan()
        return replace(plan, settings={**plan.settings, "method": self.name})
