"""What the baselines ask of their arguments."""

from __future__ import annotations

from torch.optim import Optimizer

from swdc.errors import PlanError


def check_start(start: int, steps: int) -> None:
    """Raise ``PlanError`` unless ``start`` is a number of steps that a training of ``steps`` comes to."""
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start <= steps:
        raise PlanError(
            f"expected start as the whole number of steps before the removal, between 0 and the {steps} steps of the "
            f"training, got {start!r}"
        )


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise ``PlanError`` unless an argument is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise PlanError(f"expected {name} as a whole number of at least {least}, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ``PlanError`` unless an argument is positive and finite."""
    if not 0 < value < float("inf"):
        raise PlanError(f"expected {name} as a positive number, got {value}")


def check_optimizer(optimizer: Optimizer) -> None:
    """Raise ``PlanError`` unless it is an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise PlanError(
            f"expected the optimizer of the training, after whose steps what is removed is held at zero, got "
            f"{type(optimizer).__name__}"
        )
