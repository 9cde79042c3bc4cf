"""Facts about a program besides its graph: what tracing found, and the plan that a rewrite applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from swdc.errors import SwdcError
from swdc.ir.argument_types import check_type
from swdc.ir.conditions import Condition, FixedSize, broken, is_axis
from swdc.ir.plan import Plan
from swdc.ir.trace_options import FACTORS, HEADS, POLICIES, TIED

_FARTHEST = 64
"""How far to look for a batch size."""


@dataclass(frozen=True)
class Origin:
    """The origin of a rewritten program: its plan, and the counts of the program that the plan was made for.

    ``dense`` is the program that the plan was made for; only a masked program keeps it. ``folded`` holds, in float64,
    the biases that a rewrite computed, before they were rounded to the type of the weights.
    """

    plan: Plan
    before: Mapping[str, int]
    dense: fx.GraphModule | None = None
    folded: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What tracing found about a model besides its graph.

    ``symbols`` gives each symbolic size its value in the example inputs; ``batch`` names the symbol of the batch, or is
    ``None`` if the inputs have no common leading dimension (a graph network). ``example`` holds positional and keyword
    example inputs. ``attention`` says what attentions lose, ``heads`` or ``head_dim``. ``policy`` says whether the
    sides of a residual sum are ``tied`` or ``free``. ``captured_by`` names the way of capture; ``example_only`` says
    that the program holds for the example inputs only, because it was recorded on them. ``attempts`` names the ways of
    capture that failed before, each with its reason; a saved program does not keep them. ``conditions`` say for which
    sizes the program stands, and ``fixed`` which sizes of inputs the model's code has fixed. ``by_name`` are the
    arguments that a call has to name, because their place in the model's forward is another than in the program.
    """

    symbols: Mapping[str, int]
    batch: str | None
    example: tuple[tuple[Any, ...], dict[str, Any]] = field(repr=False)
    origin: Origin | None = None
    notes: tuple[str, ...] = ()
    attention: str = HEADS
    captured_by: str = ""
    example_only: bool = False
    policy: str = TIED
    attempts: tuple[tuple[str, str], ...] = ()
    conditions: tuple[Condition, ...] = ()
    fixed: tuple[FixedSize, ...] = ()
    by_name: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ``SwdcError`` for an unknown ``attention`` or ``policy``."""
        for name, value, options in (("attention", self.attention, FACTORS), ("policy", self.policy, POLICIES)):
            if check_type(SwdcError, name, value, str) not in options:
                raise SwdcError(f"expected {name} as one of {list(options)}, got {value!r}")

    @property
    def free(self) -> tuple[str, ...]:
        """The sizes of inputs that may change; not those that values tell, such as how many places a search finds."""
        return tuple(name for name in self.symbols if is_axis(name) or not name.startswith("u"))  # as torch names them

    def sizes(self, batch: int = 1) -> dict[str, int]:
        """Return a value for each symbol, with the given batch size."""
        return {name: batch if name == self.batch else value for name, value in self.symbols.items()}

    def nearest_batch(self, batch: int) -> int:
        """Return the first batch size from the given one on for which the program stands, at the example's sizes."""
        near = range(batch, batch + _FARTHEST)
        return next((size for size in near if broken(self.conditions, self.sizes(size)) is None), batch)


def told_sizes(facts: Facts) -> tuple[str, ...]:
    """Return lines that say which sizes of the inputs may change, under which conditions, and which are fixed."""
    free = ", ".join(facts.free) or "none"
    conditions = [f"size: only {condition}" for condition in facts.conditions]
    return (f"sizes that may change: {free}", *conditions, *(f"size: {fixed}" for fixed in facts.fixed))
