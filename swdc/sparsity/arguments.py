"""Checks of the arguments of methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

from swdc.errors import PlanError

T = TypeVar("T")

LARGEST = torch.finfo(torch.float32).max
"""Coefficients are at most this, because torch refuses larger ones for gradients in float32."""


def by_name(what: str, table: Mapping[str, T], given: Any, others: str) -> T:
    """Return the entry of a table with a name; a function is returned as it is. ``PlanError`` for anything else.

    ``others`` continues "expected a norm of ['l1', 'l2']" in the message.
    """
    if isinstance(given, str) and given in table:
        return table[given]
    if isinstance(given, str | type) or not callable(given):
        raise PlanError(f"expected a {what} of {sorted(table)}{others}, got {given!r}")
    return given  # type: ignore[no-any-return]


def check_steps(steps: int | None) -> int:
    """Return the number of training steps; ``PlanError`` unless it is at least 1."""
    if steps is None or steps < 1:
        raise PlanError(f"expected steps as the whole number of training steps, at least 1, got {steps!r}")
    return steps


def check_start(start: int, steps: int) -> None:
    """Raise ``PlanError`` unless ``start`` is between 0 and ``steps``."""
    if not 0 <= start <= steps:
        raise PlanError(
            f"expected start as the whole number of steps before the removal, between 0 and the {steps} steps of the "
            f"training, got {start!r}"
        )


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise ``PlanError`` unless an argument is at least ``least``."""
    if value < least:
        raise PlanError(f"expected {name} as a whole number of at least {least}, got {value!r}")


def check_positive(name: str, value: float | None, advice: str = "") -> None:
    """Raise ``PlanError`` unless an argument is positive, and not beyond float32."""
    if value is None or not 0 < value <= LARGEST:
        raise PlanError(f"expected {name} as a positive number of at most {LARGEST:.1e}, got {value}{advice}")


def check_optimizer(optimizer: Optimizer | None, purpose: str) -> None:
    """Raise ``PlanError`` if there is no optimizer; ``purpose`` says in the message why it is needed."""
    if optimizer is None:
        raise PlanError(f"expected optimizer= as a torch.optim.Optimizer, {purpose}, got None")


def check_minimises(optimizer: Optimizer | None, advice: str = "") -> None:
    """Raise ``PlanError`` if an optimizer climbs: a pull by the gradient would push weights away from zero."""
    if optimizer is not None and any(group.get("maximize", False) for group in optimizer.param_groups):
        raise PlanError(
            f"expected an optimizer that minimises, got maximize=True, under which the pull would push weights away "
            f"from zero; negate the loss{', ' if advice else ''}{advice}"
        )
