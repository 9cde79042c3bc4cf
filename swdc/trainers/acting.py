"""A method at work inside the steps of an optimizer that a trainer drives."""

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
from swdc.sparsity.method import Method, leaves_out

Factory = Callable[..., Method]
"""Makes a method from a model and the keywords ``optimizer`` and ``steps``, as ``functools.partial(SWD, ...)`` does."""


class Acting:
    """A method, given or yet to be made by a factory, that acts while an optimizer takes its steps.

    It acts at the very beginning of the optimizer's own computation. Whatever a trainer does to gradients is done by
    then: accumulation, reduction over processes, unscaling, clipping. Where a loss scaler leaves a step out, so does
    the method. A state that comes before the method exists waits for it.
    """

    def __init__(self, method: Method | Factory) -> None:
        if not isinstance(method, Method) and not callable(method):
            raise PlanError(
                f"expected a method (such as swdc.SWD) or a function of model, optimizer and steps that makes one, "
                f"got {type(method).__name__}"
            )
        self._given = method
        self.method = method if isinstance(method, Method) else None
        self._state: Mapping[str, Any] | None = None
        self._handle: RemovableHandle | None = None

    def start(self, model: nn.Module, optimizer: Optimizer, steps: float, done: int) -> None:
        """Make the method where it is not given, go on from the state that was loaded, and begin to act.

        ``steps`` is how many the optimizer takes in all, infinite where that is not known; ``done`` how many of them
        lie behind. ``PlanError`` where that is some and no state came with them.
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
        """Act no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the method, empty before it is made."""
        if self._state is not None:
            return dict(self._state)
        return {} if self.method is None else self.method.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state to start from."""
        self._state = state or None


def _made(factory: Factory, model: nn.Module, optimizer: Optimizer, steps: float) -> Method:
    offered = {"optimizer": optimizer, "steps": int(steps) if math.isfinite(steps) and steps > 0 else None}
    bound = factory.keywords if isinstance(factory, partial) else {}  # what the user has chosen stays
    method = factory(model, **{name: value for name, value in offered.items() if name not in bound})
    if not isinstance(method, Method):
        raise PlanError(f"expected a function that returns a method (such as swdc.SWD), got {type(method).__name__}")
    return method


def _act(method: Method, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Act now, or where gradients come from a closure of the step, as soon as it has computed them."""
    closure = kwargs["closure"] if "closure" in kwargs else (*args, None)[1]
    if closure is None:
        if not leaves_out(optimizer):
            _unscale(optimizer)
            method.step()
        return None

    def closure_and_act() -> Any:
        loss = closure()
        method.step()
        return loss

    return args[:1], {**kwargs, "closure": closure_and_act}


def _unscale(optimizer: Optimizer) -> None:
    """Unscale the gradients of a fused optimizer that a loss scaler has left that to."""
    scale: torch.Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        for parameter in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
            parameter.grad.mul_(scale.reciprocal().to(parameter.grad.device))
        optimizer.grad_scale = None  # type: ignore[attr-defined]  # the scaler's own attribute: nothing is left to do
