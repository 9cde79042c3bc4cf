"""Removed parts of a model that still trains: they are held at zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from swdc.analysis.branches import branches_of
from swdc.errors import PlanError
from swdc.ir.distributed import is_spread, local, spread_like
from swdc.ir.groups import WRITES
from swdc.ir.module_tensors import tensors_of
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.targets import Target
from swdc.sparsity.targets.base import rests_of


@dataclass(frozen=True)
class ZeroedParts:
    """The removed parts, with masks of the shapes of their tensors; for channels also the plan that removes them."""

    parts: tuple[Target, ...] = ()
    plan: Plan | None = None

    @classmethod
    def by_plan(cls, program: Program, plan: Plan) -> ZeroedParts:
        """Return everything that writes what ``plan`` removes: what ``swdc.mask`` sets to zero."""
        tensors, names = program.tensors, {id(p): name for name, p in program.named_parameters()}
        masks: dict[str, torch.Tensor] = {}
        for group in program.groups:
            removed = np.setdiff1d(np.arange(group.width), plan.kept[group.name])
            for member in group.with_role(WRITES) if len(removed) else ():
                tensor = tensors[member.tensor]
                name = names.get(id(tensor), member.tensor)  # a tied parameter has one mask
                mask = masks.setdefault(name, torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device))
                mask.index_fill_(member.dim, torch.from_numpy(member.indices[removed].ravel()).to(mask.device), True)
        branches = branches_of(program) if plan.branches else {}
        for name in (tensor for branch in plan.branches for tensor in branches[branch].tensors):
            masks[name] = torch.ones(tensors[name].shape, dtype=torch.bool, device=tensors[name].device)
        return cls(_parts(masks, tensors, rests_of(program)), plan)

    @torch.no_grad()
    def zero_(self) -> None:
        """Set the removed parts to zero."""
        for part in self.parts:
            local(part.parameter).masked_fill_(local(part.chosen), part.rest)

    @torch.no_grad()
    def zero_gradients_(self) -> None:
        """Set the gradients of the removed parts to zero, even NaN; sparse gradients stay as they are."""
        for part in self.parts:
            gradient = part.parameter.grad
            if gradient is not None and gradient.layout == torch.strided:
                local(gradient).masked_fill_(local(part.chosen), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the masks by name, and the plan as plain data."""
        plan = None if self.plan is None else self.plan.to_dict()
        return {"masks": {part.name: part.chosen for part in self.parts}, "plan": plan}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], model: nn.Module) -> ZeroedParts:
        """Return what ``state_dict`` wrote, for the tensors of ``model``; ``PlanError`` if it does not fit them."""
        tensors, masks = tensors_of(model), state["masks"]
        for name, mask in masks.items():
            if name not in tensors or tensors[name].shape != mask.shape:
                raise PlanError(
                    f"expected masks of tensors of this model, got one of {name!r} of shape {tuple(mask.shape)}; load "
                    f"the state into a method on the same model"
                )
        plan = None if state["plan"] is None else Plan.from_dict(state["plan"])
        return cls(_parts(masks, tensors, rests_of(model)), plan)


def _parts(
    masks: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], rests: Mapping[str, float]
) -> tuple[Target, ...]:
    parts = []
    for name, mask in masks.items():
        tensor = cast(nn.Parameter, tensors[name])  # or a buffer that writes channels, which is removed in the same way
        here = mask.to(tensor.device)
        chosen = here if is_spread(here) else spread_like(here, tensor)
        parts.append(Target(tensor, name, chosen, rests.get(name, 0.0)))
    return tuple(parts)


def without_gone(plan: Plan, gone: Plan | None) -> Plan:
    """Return a plan that keeps what both plans keep."""
    if gone is None:
        return plan
    kept = {name: tuple(sorted({*channels} & {*gone.kept[name]})) for name, channels in plan.kept.items()}
    branches = dict.fromkeys((*gone.branches, *plan.branches))
    return replace(plan, kept=kept, settings={**plan.settings, **({"branches": [*branches]} if branches else {})})
