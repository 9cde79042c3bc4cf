"""Single weights: those with the lowest scores, all layers together (eq. 4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.ir.distributed import whole
from swdc.ir.groups import WRITES
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.frozen import frozen_groups
from swdc.sparsity.norm_parameters import ids_in_norms
from swdc.sparsity.parametrised import refuse_parametrised
from swdc.sparsity.planning.plan import is_below, matching_names
from swdc.sparsity.selection.lowest import Lowest, Tensors
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.weight_scores import Scoring
from swdc.sparsity.weight_criteria import Saliency, magnitude

Masks = dict[str, torch.Tensor]


class WeightTargets:
    """The weights of a module with the lowest scores, by default the least magnitude, all layers together (eq. 4).

    Scores that read gradients may be equal, for example zero. Of equal scores, the weights with the least magnitude
    come first, and of equal magnitudes those that come first in the model.

    What belongs to norms is found by what code does with it (``swdc.sparsity.norm_parameters``).
    ``norms=True`` takes gains and biases of norms for weights, as eq. 4 is written: the share is of all parameters.
    """

    def __init__(
        self, model: nn.Module, target: float, ignore: tuple[str, ...], saliency: Saliency = magnitude,
        frozen: Collection[str] = (), norms: bool = False,
    ) -> None:  # fmt: skip
        self.model, self._share, self._frozen = model, target, frozen
        outside = set() if norms else ids_in_norms(model)
        ignored = {name for pattern in ignore for name in matching_names(model, pattern)}
        counted = {
            name: p
            for name, p in model.named_parameters()
            if p.is_floating_point() and id(p) not in outside and name not in frozen
        }
        self._weights = {name: p for name, p in counted.items() if not is_below(name, ignored)}
        refuse_parametrised(model, self._weights)
        self._total = sum(p.numel() for p in counted.values())
        self._check(target, sum(p.numel() for p in self._weights.values()))
        self.scoring = Scoring(saliency, self._weights)
        self._by_magnitude = saliency is magnitude
        self._lowest = Lowest(self._by_magnitude, ties=not self._by_magnitude)

    def _check(self, target: float, available: int) -> None:
        count = int(target * self._total)
        if count == 0 or not available:
            frozen = f" ({len(self._frozen)} parameters are frozen)" if self._frozen else ""
            raise PlanError(f"expected at least one weight outside norms to target at {target:.2%}, got none{frozen}")
        if count > available:
            raise PlanError(
                f"expected a target that can be met, but {target:.2%} of {self._total:,} weights are {count:,}, and "
                f"only {available:,} are not ignored; lower the target, or ignore less"
            )

    def find(self, share: float | None = None) -> list[Target]:
        """Return for each parameter a mask: together exactly the share, ties for the last place in order."""
        own = share is None or share == self._share
        count = int((self._share if share is None else share) * self._total)
        remembered = self._lowest if own else None  # what it remembers is for one share
        lowest = remembered or Lowest(self._by_magnitude, ties=not self._by_magnitude)
        weights = {name: p.detach() for name, p in self._weights.items()}
        if self._by_magnitude:
            masks = lowest.masks(weights, count)
        else:
            scores = {name: self.scoring.of(name) for name in weights}
            masks = lowest.masks(scores, count)
            ties = {name: mask & (scores[name] == float(lowest.last)) for name, mask in masks.items()}
            masks = _untied(masks, ties, weights, count)
        return [Target(p, name, masks[name]) for name, p in self._weights.items()]

    def candidates(self) -> list[Target]:
        """Return all weights."""
        return [Target(p, name, torch.ones_like(p, dtype=torch.bool)) for name, p in self._weights.items()]

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan that removes the channels that are left without any weight."""
        share = self._share if share is None else share
        return self.plan_of(self.find(share), share)

    def plan_of(self, found: Iterable[Target], share: float) -> Plan:
        """Return the plan that removes the channels that are left without any weight when ``found`` is removed."""
        program = self.model
        if not isinstance(program, Program):
            raise PlanError(
                "expected a Program to plan for, got a module; trace it with swdc.trace and give that to SWD"
            )
        gone = {t.name: t.chosen for t in found}
        tensors = program.tensors
        kept, still = {}, frozen_groups(program, self._frozen)
        for group in program.groups:
            dead = np.full(group.width, group.name not in still)
            for member in group.with_role(WRITES):
                zero = tensors[member.tensor].detach() == member.rest
                zero = zero if member.rest else gone.get(member.tensor, zero)
                others = [d for d in range(zero.dim()) if d != member.dim]
                filled = whole((~zero).sum(others) if others else ~zero)
                dead &= (filled == 0).cpu().numpy()[member.indices].all(1)
            dead[0] &= not dead.all()  # no group is ever emptied
            kept[group.name] = tuple(np.flatnonzero(~dead).tolist())
        settings = {"method": "swd", "sparsity": share, "budget": "weights"}
        return Plan(kept, {g.name: g.width for g in program.groups}, program.hash(), settings)


def _untied(masks: Masks, ties: Masks, weights: Tensors, count: int) -> Masks:
    """Return masks of ``count`` weights: of those that tie for the last place, those of the least magnitude."""
    surplus = _marked(masks) - count
    if surplus <= 0:
        return masks
    apart = {name: w.abs().masked_fill(~ties[name], torch.finfo(w.dtype).max) for name, w in weights.items()}
    first = Lowest().masks(apart, _marked(ties) - surplus)
    return {name: mask & (first[name] | ~ties[name]) for name, mask in masks.items()}


def _marked(masks: Masks) -> int:
    return sum(int(whole(mask.sum())) for mask in masks.values())
