"""A method that acts inside the steps of an optimizer that a trainer drives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from swdc.errors import PlanError
from swdc.sparsity.method import Method, skips_step

Factory = Callable[..., Method]
"""Makes a method from a model and the keywords ``optimizer`` and ``steps``, as ``functools.partial(SWD, ...)`` does."""


class Acting:
    """A method that acts during the steps of an optimizer; a factory may make it when training starts.

    The method acts at the very beginning of the optimizer's step. By then, everything that a trainer does to gradients
    is done: accumulation, reduction over processes, unscaling, clipping. If a loss scaler skips a step, the method
    skips it too. A state that is loaded before the method exists is kept until the method is made.
    """

    def __init__(self, method: Method | Factory) -> None:
        if isinstance(method, nn.Module) or not (isinstance(method, Method) or callable(method)):
            raise PlanError(
                f"expected a method (such as swdc.SWD) or a function of model, optimizer and steps that makes one, "
                f"got {type(method).__name__}"
            )
        self._given = method
        self.method = method if isinstance(method, Method) else None
        self._state: Mapping[str, Any] | None = None
        self._handle: RemovableHandle | None = None

    def start(self, model: nn.Module, optimizer: Optimizer, steps: float, done: int) -> None:
        """Make the method if it is not given, continue from the loaded state if there is one, and begin to act.

        ``steps`` is the number of steps that the optimizer takes in all, infinite if it is not known. ``done`` is the
        number of steps that it has taken before. Raises ``PlanError`` if it has taken some, but neither a state was
        loaded nor has the method taken a step.
        """
        self.stop()
        if not isinstance(self._given, Method):
            self.method = _made(self._given, model, optimizer, steps)
        assert self.method is not None
        if self._state is not None:
            self.method.load_state_dict(self._state)
        elif done and self.method.s == 0:
            raise PlanError(
                f"expected a checkpoint that holds the state of {type(self.method).__name__}, got one of step {done} "
                f"without it; resume from a checkpoint that was saved with this callback, or load the weights alone "
                f"and start at step 0"
            )
        self._state = None
        self._handle = optimizer.register_step_pre_hook(partial(_act, self.method))

    def stop(self) -> None:
        """Stop acting."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the method; it is empty before the method is made."""
        if self._state is not None:
            return dict(self._state)
        return {} if self.method is None else self.method.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep a state to start from."""
        self._state = state or None


def _made(factory: Factory, model: nn.Module, optimizer: Optimizer, steps: float) -> Method:
    offered = {"optimizer": optimizer, "steps": int(steps) if math.isfinite(steps) and steps > 0 else None}
    bound = factory.keywords if isinstance(factory, partial) else {}  # the user's own choices stay
    method = factory(model, **{name: value for name, value in offered.items() if name not in bound})
    if not isinstance(method, Method):
        raise PlanError(f"expected a function that returns a method (such as swdc.SWD), got {type(method).__name__}")
    return method


def _act(method: Method, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Act now, or, if a closure computes the gradients inside the step, right after the closure."""
    closure = kwargs["closure"] if "closure" in kwargs else (*args, None)[1]
    if closure is None:
        if not skips_step(optimizer):
            _unscale(optimizer)
            method.step()
        return None

    def closure_and_act() -> Any:
        loss = closure()
        method.step()
        return loss

    return args[:1], {**kwargs, "closure": closure_and_act}


def _unscale(optimizer: Optimizer) -> None:
    """Unscale the gradients if a loss scaler has left that to a fused optimizer."""
    scale: torch.Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        for parameter in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
            parameter.grad.mul_(scale.reciprocal().to(parameter.grad.device))
        optimizer.grad_scale = None  # type: ignore[attr-defined]  # the scaler's own attribute: nothing is left to do
