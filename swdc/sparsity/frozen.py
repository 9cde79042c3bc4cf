"""Which parameters are frozen: methods never score, pull, shrink, zero or remove them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from torch import nn
from torch.optim import Optimizer

from swdc.errors import PlanError
from swdc.ir.groups import READS, WRITES
from swdc.ir.program import Program
from swdc.ops.base import leaf_like

_log = logging.getLogger("swdc")


def frozen_parameters(model: nn.Module, optimizer: Optimizer | None = None) -> dict[str, str]:
    """Return the reason for each frozen parameter, by every name that it has in the model.

    Frozen are parameters that require no gradient, those of norms that are held in evaluation while the model trains,
    and those that the optimizer does not hold. ``PlanError`` if the optimizer holds no parameter of the model.
    """
    held = None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters(remove_duplicate=False))
    if held is not None and named and not any(id(p) in held for p in named.values()):
        raise PlanError(
            f"expected an optimizer of this model's parameters, got one that holds none of its {len(named)}; make the "
            f"optimizer with model.parameters(), after the last change of the model, and then the method"
        )
    still = _in_still_norms(model)
    found: dict[str, str] = {}
    for name, parameter in named.items():
        if not parameter.requires_grad:
            found[name] = "requires no gradient"
        elif id(parameter) in still:
            found[name] = "belongs to a norm in evaluation"
        elif held is not None and id(parameter) not in held:
            found[name] = "is not in the optimizer"
    return found


def frozen_groups(program: Program, frozen: Collection[str]) -> set[str]:
    """Return the names of the groups whose channels frozen parameters write or read."""
    if not frozen:
        return set()
    tensors = program.tensors
    ids = {id(tensors[name]) for name in frozen if name in tensors}
    return {
        group.name
        for group in program.groups
        if any(m.roles & {WRITES, READS} and id(tensors[m.tensor]) in ids for m in group.members)
    }


def tell_outside(frozen: Mapping[str, str]) -> None:
    """Say in the log that the optimizer lacks parameters, which is more often a mistake than meant."""
    outside = [name for name, reason in frozen.items() if reason == "is not in the optimizer"]
    if outside:
        _log.warning(
            "the optimizer lacks %d parameters of the model, such as %s: they are frozen, and stay as they are; if "
            "they should train, make the optimizer after the last change of the model", len(outside), outside[0],
        )  # fmt: skip


def _in_still_norms(model: nn.Module) -> set[int]:
    """Return the ids of parameters of norms in evaluation in a model that trains."""
    if not model.training:
        return set()
    still = [m for m in model.modules() if not m.training and leaf_like(m).is_norm]
    return {id(p) for module in still for p in module.parameters(recurse=False)}
