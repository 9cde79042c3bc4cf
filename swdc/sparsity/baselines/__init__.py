"""The methods that Selective Weight Decay is compared with, each from its source, under the interface of ``SWD``."""

from __future__ import annotations

from typing import Any

from torch import nn

from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.sparsity.baselines.base import Removing
from swdc.sparsity.baselines.growing import GrowingL2
from swdc.sparsity.baselines.magnitude import MagnitudePruning
from swdc.sparsity.baselines.network_slimming import NetworkSlimming
from swdc.sparsity.baselines.rewinding import LRRewinding
from swdc.sparsity.baselines.thin_dense import thin
from swdc.sparsity.baselines.uniform_decay import UniformDecay
from swdc.sparsity.method import Method
from swdc.sparsity.swd import SWD

METHODS: dict[str, type[Method]] = {
    "swd": SWD,
    **{cls.name: cls for cls in (MagnitudePruning, NetworkSlimming, LRRewinding, GrowingL2, UniformDecay)},
}
"""All methods by name."""

__all__ = [
    "METHODS",
    "GrowingL2",
    "LRRewinding",
    "MagnitudePruning",
    "NetworkSlimming",
    "Removing",
    "UniformDecay",
    "method",
    "thin",
]


@checked(PlanError)
def method(name: str, model: nn.Module, target: float, structure: str, **options: Any) -> Method:
    """Return the method called ``name`` for a model; ``options`` are those of its class.

    Raises ``PlanError`` for a name that is not in ``METHODS``, and in the cases in which the class does.
    """
    if name not in METHODS:
        raise PlanError(f"expected a method of {sorted(METHODS)}, got {name!r}")
    make: Any = METHODS[name]
    made: Method = make(model, target, structure, **options)
    return made
