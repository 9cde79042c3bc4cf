"""Targets: the single weights, channels or branches of a model that would be removed now."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from swdc.analysis.heads import HEADS
from swdc.errors import PlanError
from swdc.ir.module_tensors import is_meta
from swdc.ir.program import Program
from swdc.sparsity.frozen import frozen_parameters, tell_outside
from swdc.sparsity.planning.blocks import UNITS
from swdc.sparsity.targets.base import Target, Targets
from swdc.sparsity.targets.blocks import BlockTargets
from swdc.sparsity.targets.channels import ChannelTargets
from swdc.sparsity.targets.limits import Limits
from swdc.sparsity.targets.structures import CHANNELS, FILTERS
from swdc.sparsity.targets.weights import WeightTargets
from swdc.sparsity.weight_criteria import Saliency, find_saliency

WEIGHTS = "weights"
STRUCTURES = (CHANNELS, FILTERS, HEADS, *UNITS, WEIGHTS)

__all__ = ["STRUCTURES", "BlockTargets", "ChannelTargets", "Limits", "Target", "Targets", "WeightTargets", "targets_of"]


def targets_of(
    model: nn.Module, target: float, structure: str, ignore: str | Iterable[str] = (),
    criterion: str | Saliency = "magnitude", optimizer: Optimizer | None = None,
    norms: bool = False, limits: Limits | None = None,
) -> Targets:  # fmt: skip
    """Return the object that finds the ``target`` share of a model, of what ``limits`` say.

    If the model does nothing but wrap a program, the share is that of the program. What is frozen
    (``swdc.sparsity.frozen``) is neither targeted nor counted. What ``ignore`` names is counted, but stays. Raises
    ``PlanError`` for bad arguments, and if nothing can be removed.
    """
    if structure not in STRUCTURES:
        raise PlanError(f"expected a structure of {list(STRUCTURES)}, got {structure!r}")
    if not 0 < target < 1:
        raise PlanError(f"expected a target (the share that is removed) between 0 and 1, got {target}")
    limits = limits or Limits()
    if structure not in UNITS:
        limits.check(structure, of_weights=structure == WEIGHTS)
    patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    saliency = find_saliency(criterion)
    inner = _unwrapped(model)
    if is_meta(inner):
        raise PlanError("expected a model with values to train, got one on the meta device; give it values first")
    frozen = frozen_parameters(inner, optimizer)
    tell_outside(frozen)
    if structure == WEIGHTS:
        return WeightTargets(inner, target, patterns, saliency, frozen, norms)
    if norms:
        raise PlanError(f"expected norms=True with structure='weights' only, got it with {structure!r}")
    if structure in UNITS:
        return BlockTargets(inner, target, patterns, structure, saliency, frozen, limits)
    return ChannelTargets(inner, target, patterns, structure, saliency, frozen, limits)


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the program in a wrapper of ``torch.compile`` or ``DistributedDataParallel``; else the module itself."""
    children = [*model.children()]
    return children[0] if len(children) == 1 and isinstance(children[0], Program) else model
