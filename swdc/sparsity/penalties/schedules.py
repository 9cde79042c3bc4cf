"""How the coefficient of a penalty grows over training: plain functions of the step.

Each takes the step ``s``, the start value, the end value and the number of steps; from step ``steps`` on it returns the
end value. A function of the user's gets the bounds as they were given, and ``None`` for a bound that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from swdc.sparsity.arguments import by_name

Schedule = Callable[[int, Any, Any, int], float]
"""A function of the step, the start value, the end value and the number of steps."""


def exponential(s: int, start: float, end: float, steps: int) -> float:
    """Return ``start (end / start)^(s / steps)`` (eq. 3 of Tessier et al. 2022)."""
    return float(start * (end / start) ** min(s / steps, 1.0))


def linear(s: int, start: float, end: float, steps: int) -> float:
    """Return ``start + (end - start) s / steps``."""
    return start + (end - start) * min(s / steps, 1.0)


def cosine(s: int, start: float, end: float, steps: int) -> float:
    """Return half a period of a cosine from ``start`` to ``end``: slow at both ends."""
    return start + (end - start) * (1 - math.cos(math.pi * min(s / steps, 1.0))) / 2


def constant(s: int, start: float, end: float, steps: int) -> float:
    """Return ``end`` at every step."""
    return end


SCHEDULES: dict[str, Schedule] = {"exponential": exponential, "linear": linear, "cosine": cosine, "constant": constant}


def find_schedule(schedule: str | Schedule) -> Schedule:
    """Return a schedule by its name; a function ``(s, a_min, a_max, steps) -> a`` is returned as it is."""
    return by_name("schedule", SCHEDULES, schedule, " or a function of (s, a_min, a_max, steps)")
