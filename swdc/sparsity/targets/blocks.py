"""Whole residual branches, or layers: what a plan with a budget would remove now."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import nn

from swdc.analysis.branches import branches_of
from swdc.errors import PlanError
from swdc.ir.distributed import whole
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.branches import without_branches
from swdc.sparsity.planning.blocks import Units, no_units, target_of
from swdc.sparsity.planning.earlier import Earlier
from swdc.sparsity.selection.lowest import not_finite
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.limits import Limits
from swdc.sparsity.targets.weight_scores import Scoring
from swdc.sparsity.weight_criteria import Saliency, magnitude


class BlockTargets:
    """The residual branches (or whole layers, with ``structure="layers"``) that a plan would remove now.

    What is pulled are the weights and biases of the layers that write a branch: if they are zero, so is the branch. The
    root mean square of these weights decides, or the mean of another saliency, so that large and small layers compare.
    The budget is their number, unless ``limits`` name another one. A branch stays if it holds a frozen parameter.
    """

    def __init__(
        self, program: nn.Module, target: float, ignore: tuple[str, ...], structure: str,
        saliency: Saliency = magnitude, frozen: Collection[str] = (), limits: Limits | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(program, Program):
            raise PlanError(
                f"expected a Program for structure={structure!r}, got {type(program).__name__}; trace the model with "
                f"swdc.trace first (training the program trains the model), and wrap the program, not the model"
            )
        limits = limits or Limits()
        if limits.round_to != 1 or limits.table is not None:
            raise PlanError(f"expected no round_to and no table with structure={structure!r}, which keeps all channels")
        self.model: nn.Module = program
        self._program, self._share, self._structure = program, target, structure
        self._units = Units(program, structure, limits.budget or structure, Earlier(program, None))
        known, parameters = branches_of(program), dict(program.named_parameters(remove_duplicate=False))
        still = set() if not frozen else {name for name in self._units.branches if self._holds(name, frozen)}
        allowed = [name for name in self._units.allowed(ignore) if name not in still]
        written = {
            unit: [tensor for name in self._units.branches[unit] for tensor in known[name].tensors] for unit in allowed
        }
        self._pulled = {unit: own for unit, own in written.items() if parameters.keys() >= set(own)}
        if not self._pulled:
            raise PlanError(no_units(structure) + ("; some parameters are frozen, and stay" if frozen else ""))
        self._parameters = {name: parameters[name] for own in self._pulled.values() for name in own}
        counted = limits.budget in (None, structure)
        held = {id(parameters[name]): parameters[name].numel() for name in frozen}
        self._fixed = len(still) if counted else sum(held.values()) if limits.budget == "parameters" else 0
        self._by_magnitude = saliency is magnitude
        self.scoring = Scoring(saliency, self._parameters)
        self._found: tuple[object, list[Target]] = (None, [])
        self._chosen: dict[tuple[str, ...], list[str]] = {}
        self._gone(target)  # fails now rather than at the first step if the budget cannot be met

    def _holds(self, unit: str, frozen: Collection[str]) -> bool:
        """Whether a unit holds a frozen parameter, which would go with it."""
        plan = self._units.plan([unit], {})
        left = without_branches(self._program, plan, self._program).read_tensors()
        return bool((self._program.read_tensors() - left) & set(frozen))

    def find(self, share: float | None = None) -> Sequence[Target]:
        """Return the weights and biases that write what would be removed now."""
        gone = self._gone(self._share if share is None else share)
        key = tuple(gone), [(p.device, p.dtype) for p in self._parameters.values()]
        if self._found[0] != key:
            self._found = key, self._targets(gone)
        return self._found[1]

    def candidates(self) -> Sequence[Target]:
        """Return the weights and biases that write any branch that can be removed."""
        return self._targets(list(self._pulled))

    def plan(self, share: float | None = None) -> Plan:
        """Return the plan that removes the branches at ``share``, by default the target share."""
        share = self._share if share is None else share
        settings = {
            "method": "swd", "structure": self._structure, "sparsity": share, "budget": self._units.budget,
            "criterion": self.scoring.name, "policy": self._program.facts.policy,
        }  # fmt: skip
        return self._units.plan(self._gone(share), settings)

    def _targets(self, units: Sequence[str]) -> list[Target]:
        names = dict.fromkeys(name for unit in units for name in self._pulled[unit])
        every = ((self._parameters[name], name) for name in names)
        return [Target.of_rows(p, name, torch.ones(len(p), dtype=torch.bool)) for p, name in every]

    def _gone(self, share: float) -> list[str]:
        """Return the units to remove, those with the lowest scores; ``PlanError`` if a score is NaN or infinity."""
        names = list(self._pulled)
        order = tuple(names[place] for place in np.argsort([self._score(name) for name in names], kind="stable"))
        target = target_of(self._units.full - self._fixed, share) + self._fixed
        if share != self._share:
            return self._units.fewest(order, target)
        if order not in self._chosen:
            self._chosen = {order: self._units.fewest(order, target)}
        return self._chosen[order]

    def _score(self, unit: str) -> float:
        total, number = 0.0, 0
        for name in self._pulled[unit]:
            scores = self._parameters[name].detach() if self._by_magnitude else self.scoring.of(name)
            found = float(whole((scores.float().square() if self._by_magnitude else scores.float()).sum()))
            if not np.isfinite(found):
                raise not_finite(name)
            total, number = total + found, number + scores.numel()
        return float(np.sqrt(total / number)) if self._by_magnitude else total / number
