"""The base class of the baselines: removals at given steps of the training; removed parts are held at zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.ir.distributed import put_in_parts
from swdc.ir.groups import WRITES
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.arguments import check_optimizer
from swdc.sparsity.baselines.zeroed_parts import ZeroedParts, without_gone
from swdc.sparsity.frozen import frozen_groups, frozen_parameters
from swdc.sparsity.method import Method
from swdc.sparsity.planning.plan import ignored_groups
from swdc.sparsity.same_parameters import Ownership
from swdc.sparsity.targets import BlockTargets, Limits, Target, WeightTargets, targets_of


class Removing(Method):
    """Removes shares of the weights or the channels after given numbers of steps; training then goes on.

    Removed parts and their gradients are set to zero. The parts are set to zero again after each step of the optimizer,
    so that neither momentum nor decay brings them back. For a channel, everything that writes it is removed (filters,
    gains, biases), as in ``swdc.mask``: the trained, the masked and the slim program are the same function.
    """

    def __init__(
        self, model: nn.Module, target: float, structure: str, *, steps: int, removals: Sequence[tuple[int, float]],
        optimizer: Optimizer, ignore: str | Iterable[str], limits: Limits, settings: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """``removals`` lists, in ascending order, after how many steps a removal follows and the share removed by then.

        A saved state can be loaded only if its ``settings`` and the other arguments are the same.
        """
        check_optimizer(optimizer, "after whose steps removed parts are held at zero")
        self._ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        targets = targets_of(model, target, structure, self._ignore, optimizer=optimizer, limits=limits)
        self._limits = limits
        self.removals = tuple(removals)
        """After how many steps each removal follows, and which share is removed by then."""
        self._model, self._done, self._held = model, 0, ZeroedParts()
        shared = {"target": target, "structure": structure, "ignore": list(self._ignore), **limits.settings()}
        shared["removals"] = [list(removal) for removal in self.removals]
        super().__init__(targets, steps, optimizer, {**shared, **settings})
        self._still = frozen_groups(model, frozen_parameters(model, optimizer)) if isinstance(model, Program) else set()
        self._ownership = Ownership(model, self._removable())
        self._ownership.check(optimizer)  # before a long training, not after it

    def _removable(self) -> dict[str, nn.Parameter]:
        """Return by name all parameters that train and of which a part may be removed."""
        if not isinstance(self._model, Program) or isinstance(self._targets, WeightTargets | BlockTargets):
            found = {target.name: target.parameter for target in self._targets.candidates()}
        else:
            ignored, tensors = ignored_groups(self._model, self._ignore) | self._still, self._model.tensors
            groups = [group for group in self._model.groups if group.name not in ignored]
            written = {id(tensors[member.tensor]) for group in groups for member in group.with_role(WRITES)}
            found = {name: p for name, p in self._model.named_parameters() if id(p) in written}
        return {name: parameter for name, parameter in found.items() if parameter.requires_grad}

    def _act(self) -> None:
        """Remove what is due after a skipped step of the optimizer; set the gradients of removed parts to zero."""
        self._remove_due()
        if self._done < len(self.removals):
            self._penalise()
        self._held.zero_gradients_()

    def _penalise(self) -> None:
        """Add to the gradients what the method adds until the last removal."""

    def _follow(self) -> None:
        """Remove what is due, and set removed parts to zero again."""
        self._remove_due()
        self._held.zero_()

    def _remove_due(self) -> None:
        self._remove(sum(step <= self.s for step, _ in self.removals))

    def _remove(self, rounds: int) -> None:
        """Carry out the first ``rounds`` removals, unless they are done."""
        if rounds <= self._done:
            return
        self._held = self._found(self.removals[rounds - 1][1])
        self._held.zero_()
        self._done = rounds

    def _found(self, share: float) -> ZeroedParts:
        """Return the parts removed at ``share``: those removed already, and the rest by the lowest scores."""
        if isinstance(self._targets, WeightTargets):
            return ZeroedParts(tuple(self._targets.find(share)))  # removed weights are zero, and so among the lowest
        assert isinstance(self._model, Program)
        return ZeroedParts.by_plan(self._model, self._named(without_gone(self._targets.plan(share), self._held.plan)))

    def removed(self) -> list[Target]:
        """Return the parts that are removed so far, and held at zero."""
        return list(self._held.parts)

    def targeted(self) -> list[Target]:
        """Return the parts that the last removal removed; before it, those that it would remove now."""
        return list(self._final().parts)

    def plan(self) -> Plan:
        """Return the plan that removes what is targeted.

        If single weights are targeted, the plan removes the channels that are left without any weight.
        """
        final = self._final()
        if isinstance(self._targets, WeightTargets):
            return self._named(self._targets.plan_of(final.parts, self.removals[-1][1]))
        assert final.plan is not None
        return final.plan

    def _final(self) -> ZeroedParts:
        return self._held if self._done == len(self.removals) else self._found(self.removals[-1][1])

    @torch.no_grad()
    def _cut(self) -> None:
        """Carry out all removals now, even those due later, and hold the parts at zero; a second call does nothing."""
        put_in_parts(self._model)
        self._remove(len(self.removals))

    def state_dict(self) -> dict[str, Any]:
        """Return the state: the steps and removals done, what is held at zero, and the settings."""
        return {**super().state_dict(), "done": self._done, "held": self._held.state_dict()}

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        self._done, self._held = int(state["done"]), ZeroedParts.from_state(state["held"], self._model)
