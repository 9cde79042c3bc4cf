"""Checks of the arguments of methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from torch.optim import Optimizer

from swdc.errors import PlanError

T = TypeVar("T")


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
    """Return the number of training steps; ``PlanError`` unless it is a whole number of at least 1."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise PlanError(f"expected steps as the whole number of training steps, at least 1, got {steps!r}")
    return steps


def check_start(start: int, steps: int) -> None:
    """Raise ``PlanError`` unless ``start`` is a whole number between 0 and ``steps``."""
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
    if not 0 < value < math.inf:
        raise PlanError(f"expected {name} as a positive number, got {value}")


def check_optimizer(optimizer: object, purpose: str) -> None:
    """Raise ``PlanError`` unless the argument is an optimizer; ``purpose`` says in the message why it is needed."""
    if not isinstance(optimizer, Optimizer):
        raise PlanError(f"expected optimizer= as a torch.optim.Optimizer, {purpose}, got {type(optimizer).__name__}")
