"""The base class of all methods that make a network sparse while it trains."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.errors import PlanError, told_as
from swdc.ir.argument_types import check_type, checked
from swdc.ir.distributed import local, put_in_parts
from swdc.ir.plan import Plan
from swdc.sparsity.arguments import check_count, check_steps
from swdc.sparsity.fingerprints import of_parameters
from swdc.sparsity.gap import Gap, Metric, gap_of
from swdc.sparsity.gradient_order import GradientOrder
from swdc.sparsity.same_parameters import Ownership
from swdc.sparsity.targets import Target, Targets

_LOOKED_AT = 3
"""How many gradients are looked at to see whether the optimizer has used them already."""


class Method(ABC):
    """Acts on parameters in any training loop, and plans the removal at the end::

        loss.backward()
        method.step()         # after gradients are unscaled, clipped and reduced
        optimizer.step()

    If an ``optimizer`` is given, the work that has to follow its step (a shrinkage, weights held at zero) is done
    automatically, even if a loss scaler calls the step. It is not done if the scaler skips the step.
    ``restarts`` are the steps at which the schedule of the learning rate starts again.

    In distributed training, all processes make the same calls. They make the method after the parameters are in parts
    (FSDP2), and each process saves its own state.

    A step raises ``PlanError`` if a parameter that can be targeted has been replaced by another (moving a model to
    another device or type keeps its parameters), is missing in the optimizer, or holds NaN or infinity.
    """

    name: ClassVar[str] = "method"
    """The name of the method in plans and in saved states."""
    restarts: tuple[int, ...] = ()

    def __init__(
        self, targets: Targets, steps: int | None, optimizer: Optimizer | None, settings: Mapping[str, Any]
    ) -> None:
        """A saved state can be loaded only if its ``settings`` are the same."""
        self.steps, self.s = check_steps(steps), 0
        self._targets, self._settings = targets, {"method": self.name, **settings, "steps": steps}
        self._ownership = Ownership(targets.model, {t.name: t.parameter for t in targets.candidates()})
        self._settings["network"] = of_parameters(self._ownership.parameters)
        self._optimizer, self._handle = optimizer, None
        self._used: list[tuple[weakref.ref[torch.Tensor], int]] = []
        self._closed, self._order = False, GradientOrder(self._ownership.parameters.values())
        if optimizer is not None:
            self._handle = optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Do what follows a step of the optimizer, and note which gradients it has used."""
        gradients = (p.grad for p in self._ownership.parameters.values())
        self._used = [(weakref.ref(g), g._version) for g in islice((g for g in gradients if g is not None), _LOOKED_AT)]
        if not skips_step(optimizer):
            self._follow()

    def close(self) -> None:
        """Let go of optimizer and parameters: nothing follows a step any more, and ``step`` raises ``PlanError``."""
        if self._handle is not None:
            self._handle.remove()
        self._order.close()
        self._handle, self._closed, self._used = None, True, []

    def step(self) -> None:
        """Act on the gradients; call between ``backward`` and the optimizer's step.

        Raises ``PlanError`` if the optimizer has used these gradients already, or changed the weights since they were
        made, and after ``close``.
        """
        if self._closed:
            raise PlanError("expected a method that is open, got one after close(); make another")
        self._ownership.check(self._optimizer)
        late, used = self._order.is_late(), self._used and self._are_used()
        if late or used:
            why = (
                "the optimizer has used these gradients already" if used else "the weights have changed since backward"
            )
            raise PlanError(
                f"expected step {self.s} between backward and the optimizer's step, but {why}, and what is added now "
                f"would be lost; call backward, then step of the {type(self).__name__}, then that of the optimizer"
            )
        self._used = []
        with torch.set_grad_enabled(False):
            self._act()
        self.s += 1

    def _are_used(self) -> bool:
        """Whether parameters still hold, unchanged, the gradients that the optimizer has used."""
        held = {id(p.grad) for p in self._ownership.parameters.values()}
        found = [(gradient(), version) for gradient, version in self._used]
        return all(g is not None and id(g) in held and g._version == version for g, version in found)

    @abstractmethod
    def _act(self) -> None:
        """Do the work of step ``s`` that comes before the optimizer's step."""

    @torch.no_grad()  # noqa: B027  most methods are done by then
    def _follow(self) -> None:
        """Do the work that comes after the optimizer's step."""

    def targeted(self) -> list[Target]:
        """Return what would be pruned now."""
        return [*self._targets.find()]

    def remove_(self) -> None:
        """Set everything targeted to zero, in place: the one removal at the end of training.

        A gain that is read as ``1 + gain`` becomes -1, with which it writes zeros.
        """
        self._cut()

    @torch.no_grad()
    def _cut(self) -> None:
        put_in_parts(self._targets.model)
        for target in self.targeted():
            local(target.parameter).masked_fill_(local(target.chosen), target.rest)

    @checked(PlanError)
    def gap(self, metric: Metric) -> Gap:
        """Return a metric of the model as it is now, and as it would be if the targets were cut now.

        ``metric`` takes nothing and returns one number: the loss or the accuracy on held-out data, with the model in
        evaluation mode. During its second evaluation the targets are zero. Then weights, buffers (such as the
        statistics of batch norms) and modes are restored bit for bit, even if the metric raises::

            gap = swd.gap(lambda: accuracy(program, held_out))     # after the optimizer's step, say once an epoch
            if gap.difference > -0.001: ...                        # a cut now would cost less than 0.1 points

        The network can be cut when the difference has fallen to the noise of the metric and stays there for some
        evaluations. If the difference is still large near the end of training, ``a_max`` is too low for this target, or
        the training is too short. With ``a="auto"`` the difference is zero after the last step.
        """
        parameters = [target.parameter for target in self._targets.candidates()]
        return gap_of(self._targets.model, parameters, self._cut, metric)

    def plan(self) -> Plan:
        """Return the plan that removes what is targeted now.

        If single weights are targeted, the plan removes the channels that are left without any weight.
        """
        return self._named(self._targets.plan())

    def _named(self, plan: Plan) -> Plan:
        return replace(plan, settings={**plan.settings, "method": self.name})

    def state_dict(self) -> dict[str, Any]:
        """Return the state: the number of steps taken, and the settings."""
        return {"s": self.s, **self._settings}

    @checked(PlanError)
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that ``state_dict`` returned; ``PlanError`` for another model, or other settings."""
        mine = self._settings
        differing = {k: (mine[k], state.get(k)) for k in mine if mine[k] != state.get(k)}
        if differing or "s" not in state:
            raise PlanError(
                f"expected a state with the settings of this run, got other values (mine, given): {differing}; make "
                f"the {type(self).__name__} with the settings that the state was saved under"
            )
        with told_as(PlanError, "a state that state_dict returned for this model, got another", "load that one"):
            self._load(state)

    def _load(self, state: Mapping[str, Any]) -> None:
        """Take what a state holds; any error means that the state is not one of this method on this model."""
        self.s = check_type(PlanError, "the steps taken, s,", state["s"], int)
        check_count("s", self.s, least=0)


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    """Return the gradient of a parameter; a missing one is made of zeros, a sparse one is made dense."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    elif parameter.grad.layout != torch.strided:
        parameter.grad = parameter.grad.to_dense()
    return parameter.grad


def skips_step(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer skips its current step, which a loss scaler calls even if gradients are infinite."""
    infinite: torch.Tensor | None = getattr(optimizer, "found_inf", None)
    return infinite is not None and bool(infinite)
