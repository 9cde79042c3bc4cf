"""Selective Weight Decay (Tessier et al. 2022): pull what would be pruned now towards zero, harder at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.groups import WRITES, ChannelGroup, Ids, Member
from swdc.plan import Plan
from swdc.program import Program
from swdc.sparsity.budgets import Budget
from swdc.sparsity.choosing import Chooser
from swdc.sparsity.criteria import gamma, l2
from swdc.sparsity.gains import deciding_norms
from swdc.sparsity.planning import ignored_groups, is_below, matching_names, scored
from swdc.sparsity.schedules import exponential

STRUCTURES = ("channels", "weights")
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class Target:
    """The part of one parameter that is pulled: a mask of its shape, or indices along its first dimension."""

    parameter: nn.Parameter
    name: str
    chosen: torch.Tensor


class SWD:
    """Selective Weight Decay, in any training loop::

        swd = SWD(program, target=0.9, a_min=1e2, a_max=1e6, steps=epochs * len(loader))
        ...
        loss.backward()
        swd.step()            # adds a(s) * mu * w to the gradient of everything targeted (eq. 2)
        optimizer.step()
        ...
        slim = swdc.slim(program, swd.plan())

    ``structure="channels"`` targets the channels that a plan with this budget would remove now: one threshold on the
    gains |gamma| of the batch norms that decide, such that the parameters left are at most ``1 - target`` of all;
    their gamma and beta are pulled. Without batch norms, the norm of the filters decides and the filters are pulled.
    ``structure="weights"`` targets the ``target`` share of all weights outside norms with the least magnitude
    (eq. 4), on any module.

    The coefficient grows as ``a(s) = a_min (a_max / a_min)^(s / steps)`` (eq. 3) and stays at ``a_max`` after
    ``steps`` steps. ``mu`` is the weight decay coefficient of eq. 2; the usual decay itself is the optimizer's.
    The set is found anew at every step from the weights as they are, so that all state is the number of steps.

    Raises ``PlanError`` for arguments out of range, and where nothing can be targeted.
    """

    def __init__(
        self, model: nn.Module, target: float, structure: str = "channels", *, a_min: float, a_max: float, steps: int,
        mu: float = 5e-4, ignore: Iterable[str] = (),
    ) -> None:  # fmt: skip
        _check(target, structure, a_min, a_max, steps, mu)
        self.target, self.a_min, self.a_max, self.steps, self.mu = target, a_min, a_max, steps, mu
        self.s = 0
        ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        self._targets: ChannelTargets | WeightTargets = (
            ChannelTargets(model, target, ignore) if structure == "channels" else WeightTargets(model, target, ignore)
        )

    @property
    def a(self) -> float:
        """The coefficient of the next step (eq. 3)."""
        return exponential(self.s, self.a_min, self.a_max, self.steps)

    def targeted(self) -> list[Target]:
        """Return what would be pruned now."""
        return self._targets.find()

    @torch.no_grad()
    def step(self) -> None:
        """Add the gradient of the penalty to the gradients; call between ``backward`` and the optimizer's step."""
        pull = self.a * self.mu
        for target in self.targeted():
            weight = target.parameter
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            if target.chosen.dtype == torch.bool:
                weight.grad.addcmul_(weight, target.chosen.to(weight.dtype), value=pull)
            else:
                weight.grad.index_add_(0, target.chosen, weight.index_select(0, target.chosen), alpha=pull)
        self.s += 1

    @torch.no_grad()
    def remove_(self) -> None:
        """Set everything targeted to zero, in place: the one removal at the end of training."""
        for target in self.targeted():
            if target.chosen.dtype == torch.bool:
                target.parameter.masked_fill_(target.chosen, 0)
            else:
                target.parameter.index_fill_(0, target.chosen, 0)

    def plan(self) -> Plan:
        """Return the plan that removes what is targeted now.

        For ``structure="weights"`` these are the channels that the removal leaves without a single weight.
        """
        return self._targets.plan()

    def state_dict(self) -> dict[str, Any]:
        """Return the state: how many steps were taken, and under which settings."""
        settings = {
            "target": self.target,
            "a_min": self.a_min,
            "a_max": self.a_max,
            "steps": self.steps,
            "mu": self.mu,
        }
        return {"s": self.s, **settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that ``state_dict`` returned; ``PlanError`` if its settings are not these."""
        mine = self.state_dict()
        differing = {k: (mine[k], state.get(k)) for k in mine if k != "s" and mine[k] != state.get(k)}
        if differing or "s" not in state:
            raise PlanError(
                f"expected a state with the settings of this run, got other values (mine, given): {differing}; make "
                f"the SWD with the settings that the state was saved under"
            )
        self.s = int(state["s"])


class ChannelTargets:
    """The channels of a program that a plan with a parameter budget would remove now."""

    def __init__(self, program: nn.Module, target: float, ignore: tuple[str, ...]) -> None:
        if not isinstance(program, Program):
            raise PlanError(
                f"expected a Program for structure='channels', got {type(program).__name__}; trace the model with "
                f"swdc.trace first (training the program trains the model)"
            )
        self._program, self._share = program, target
        self._budget = Budget(program, "parameters")
        self._ignored = ignored_groups(program, ignore)
        norms = deciding_norms(program)
        self._criterion = gamma if norms else l2
        gains = {f"{path}.{name}" for path in norms for name in ("weight", "bias")}
        self._pulled = [self._members(group, gains if norms else None) for group in program.groups]
        if not any(self._pulled):
            raise PlanError("expected channels that can be removed; program.explain() says what is frozen")
        self._choose()  # fails now rather than at the first step where the budget cannot be met

    def find(self) -> list[Target]:
        """Return the gains and shifts, or the filters, of the channels that would go."""
        plan = self.plan()
        parts: dict[str, list[Any]] = {}
        for group, members in zip(self._program.groups, self._pulled, strict=True):
            removed = np.setdiff1d(np.arange(group.width), plan.kept[group.name])
            for member in members if len(removed) else ():
                parts.setdefault(member.tensor, []).append((member.dim, member.indices[removed].ravel()))
        tensors = self._program.tensors
        return [self._target(name, tensors[name], found) for name, found in parts.items()]

    def plan(self) -> Plan:
        """Return the plan."""
        chooser, widths = self._choose()
        settings = {
            "method": "swd",
            "sparsity": self._share,
            "budget": "parameters",
            "criterion": self._criterion.__name__,
        }
        return chooser.plan(widths, self._program, settings)

    def _choose(self) -> tuple[Chooser, Ids]:
        program = self._program
        chooser = Chooser(program.groups, scored(program, program.groups, self._criterion, self._ignored))
        return chooser, chooser.smallest("global", self._budget, (1 - self._share) * self._budget.full)

    def _members(self, group: ChannelGroup, gains: set[str] | None) -> list[Member]:
        if group.name in self._ignored:
            return []
        return [m for m in group.with_role(WRITES) if gains is None or m.tensor in gains]

    def _target(self, name: str, tensor: torch.Tensor, found: list[Any]) -> Target:
        assert isinstance(tensor, nn.Parameter)
        if all(dim == 0 for dim, _ in found):
            rows = np.unique(np.concatenate([indices for _, indices in found]))
            return Target(tensor, name, torch.from_numpy(rows).to(tensor.device))
        chosen = torch.zeros_like(tensor, dtype=torch.bool)
        for dim, indices in found:
            chosen.index_fill_(dim, torch.from_numpy(indices).to(tensor.device), True)
        return Target(tensor, name, chosen)


class WeightTargets:
    """The weights of a module with the least magnitude, all layers together (eq. 4)."""

    def __init__(self, model: nn.Module, target: float, ignore: tuple[str, ...]) -> None:
        self._model, self._share = model, target
        norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
        ignored = {name for pattern in ignore for name in matching_names(model, pattern)}
        self._weights = {
            name: p for name, p in model.named_parameters() if id(p) not in norms and not is_below(name, ignored)
        }
        self._count = int(target * sum(p.numel() for p in self._weights.values()))
        if not self._weights or self._count == 0:
            raise PlanError(f"expected at least one weight outside norms to target at {target:.2%}, got none")

    def find(self) -> list[Target]:
        """Return for each parameter a mask of what lies at or under the threshold."""
        magnitudes = torch.cat([p.detach().abs().flatten() for p in self._weights.values()])
        threshold = magnitudes.kthvalue(self._count).values
        return [Target(p, name, p.detach().abs() <= threshold) for name, p in self._weights.items()]

    def plan(self) -> Plan:
        """Return the plan that removes the channels left without a single weight."""
        program = self._model
        if not isinstance(program, Program):
            raise PlanError(
                "expected a Program to plan for, got a module; trace it with swdc.trace and give that to SWD"
            )
        gone = {t.name: t.chosen for t in self.find()}
        tensors = program.tensors
        kept = {}
        for group in program.groups:
            dead = np.ones(group.width, dtype=bool)
            for member in group.with_role(WRITES):
                zero = gone.get(member.tensor, tensors[member.tensor].detach() == 0)
                others = [d for d in range(zero.dim()) if d != member.dim]
                empty = zero.all(dim=others) if others else zero
                dead &= empty.cpu().numpy()[member.indices].all(1)
            dead[0] &= not dead.all()  # no group is ever emptied
            kept[group.name] = tuple(np.flatnonzero(~dead).tolist())
        settings = {"method": "swd", "sparsity": self._share, "budget": "weights"}
        return Plan(kept, {g.name: g.width for g in program.groups}, program.hash(), settings)


def _check(target: float, structure: str, a_min: float, a_max: float, steps: int, mu: float) -> None:
    if structure not in STRUCTURES:
        raise PlanError(f"expected a structure of {list(STRUCTURES)}, got {structure!r}")
    if not 0 < target < 1:
        raise PlanError(f"expected a target (the share that goes) between 0 and 1, got {target}")
    for name, value in (("a_min", a_min), ("a_max", a_max), ("mu", mu)):
        if not 0 < value < float("inf"):
            raise PlanError(f"expected {name} as a positive number, got {value}")
    if not isinstance(steps, int) or steps < 1:
        raise PlanError(f"expected steps as the whole number of training steps, at least 1, got {steps!r}")
