"""What makes a network sparse while it trains: the part that all methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.errors import PlanError
from swdc.ir.distributed import local, put_in_parts
from swdc.ir.plan import Plan
from swdc.sparsity.arguments import check_steps
from swdc.sparsity.gap import Gap, Metric, gap_of
from swdc.sparsity.ownership import Ownership
from swdc.sparsity.targets import Target, Targets


class Method(ABC):
    """Acts on parameters in any training loop, and says in the end what goes::

        loss.backward()
        method.step()         # after gradients are unscaled, clipped and reduced
        optimizer.step()

    With an ``optimizer``, what has to follow its step (a shrinkage, weights held at zero) follows by itself, also
    where a loss scaler calls the step, and not where the scaler leaves it out.
    ``restarts`` are the steps at which the schedule of the learning rate begins anew.

    Where processes train together, all call the method alike, and make it once their parameters are in parts (FSDP2);
    each saves its own state.

    A step raises ``PlanError`` when a parameter that can be targeted has been swapped for another (moving a model to
    another device or type keeps them), is missing in the optimizer, or holds NaN or infinity.
    """

    name: ClassVar[str] = "method"
    """What the method is called in plans and in saved states."""
    restarts: tuple[int, ...] = ()

    def __init__(
        self, targets: Targets, steps: int | None, optimizer: Optimizer | None, settings: Mapping[str, Any]
    ) -> None:
        """``settings`` is what a saved state must have been made with."""
        self.steps, self.s = check_steps(steps), 0
        self._targets, self._settings = targets, {"method": self.name, **settings, "steps": steps}
        self._ownership = Ownership(targets.model, {t.name: t.parameter for t in targets.candidates()})
        self._optimizer = optimizer
        if optimizer is not None:
            optimizer.register_step_post_hook(lambda *_: None if leaves_out(optimizer) else self._follow())

    def step(self) -> None:
        """Act on the gradients; call between ``backward`` and the optimizer's step."""
        self._ownership.check(self._optimizer)
        with torch.set_grad_enabled(False):
            self._act()
        self.s += 1

    @abstractmethod
    def _act(self) -> None:
        """Do what step ``s`` does before the optimizer's own."""

    @torch.no_grad()  # noqa: B027  most methods are done by then
    def _follow(self) -> None:
        """Do what follows the optimizer's step."""

    def targeted(self) -> list[Target]:
        """Return what would be pruned now."""
        return [*self._targets.find()]

    @torch.no_grad()
    def remove_(self) -> None:
        """Set everything targeted to zero, in place: the one removal at the end of training."""
        put_in_parts(self._targets.model)
        for target in self.targeted():
            local(target.parameter).masked_fill_(local(target.chosen), 0)

    def gap(self, metric: Metric) -> Gap:
        """Return a metric of the model now, and as it would be if what is targeted were cut now.

        ``metric`` takes nothing and returns one number: the loss or the accuracy on held-out data, with the model in
        evaluation mode. What is targeted is zero while it is evaluated for the second time; then weights, buffers
        (such as the statistics of batch norms) and modes are put back bit for bit, also if the metric raises::

            gap = swd.gap(lambda: accuracy(program, held_out))     # after the optimizer's step, say once an epoch
            if gap.difference > -0.001: ...                        # a cut now would cost less than 0.1 points

        The network can be cut when the difference has come down to the noise of the metric, and stays there for some
        evaluations. A difference that is still large near the end of training says that ``a_max`` is too low for this
        target, or the training too short. With ``a="auto"`` it is zero after the last step.
        """
        parameters = [target.parameter for target in self._targets.candidates()]
        return gap_of(self._targets.model, parameters, self.remove_, metric)

    def plan(self) -> Plan:
        """Return the plan that removes what is targeted now.

        For single weights these are the channels that the removal leaves without a single weight.
        """
        return self._named(self._targets.plan())

    def _named(self, plan: Plan) -> Plan:
        return replace(plan, settings={**plan.settings, "method": self.name})

    def state_dict(self) -> dict[str, Any]:
        """Return the state: how many steps were taken, and under which settings."""
        return {"s": self.s, **self._settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state_dict`` returned; ``PlanError`` if its settings are not these."""
        mine = self._settings
        differing = {k: (mine[k], state.get(k)) for k in mine if mine[k] != state.get(k)}
        if differing or "s" not in state:
            raise PlanError(
                f"expected a state with the settings of this run, got other values (mine, given): {differing}; make "
                f"the {type(self).__name__} with the settings that the state was saved under"
            )
        self.s = int(state["s"])


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    """Return the gradient of a parameter: zeros where there is none, dense where it was sparse."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    elif parameter.grad.layout != torch.strided:
        parameter.grad = parameter.grad.to_dense()
    return parameter.grad


def leaves_out(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer, which a loss scaler always calls, leaves the step out that it is in."""
    infinite: torch.Tensor | None = getattr(optimizer, "found_inf", None)
    return infinite is not None and bool(infinite)
