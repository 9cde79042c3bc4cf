"""What an earlier plan of the same program removes, so that another plan can remove more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from swdc.ir.groups import Bools, ChannelGroup, labelled
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.branches import without_branches
from swdc.rewriting.fitting import check_plan
from swdc.rewriting.rewrites import slim
from swdc.sparsity.planning.budgets import Costs


class Earlier:
    """What an earlier plan removes from a program: branches, channels, or nothing if there is no plan."""

    def __init__(self, program: Program, plan: Plan | None) -> None:
        """``PlanError`` if the plan was made for another program."""
        if plan is not None:
            check_plan(plan, program)
        self._program, self._plan = program, plan

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the removed branches."""
        return () if self._plan is None else self._plan.branches

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """The channels that each group keeps."""
        given = {} if self._plan is None else self._plan.kept
        return {group.name: given.get(group.name, tuple(range(group.width))) for group in self._program.groups}

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of the later plan say of the earlier one."""
        if self._plan is None:
            return {}
        named = {"branches": list(self.branches)} if self.branches else {}
        return {"after": dict(self._plan.settings), **named}

    @cached_property
    def left(self) -> Program:
        """The program without the removed branches, with all of its channels."""
        return self._program if self._plan is None else without_branches(self._program, self._plan, self._program)

    def narrow(self) -> Program:
        """Return the program without the removed channels, with all of its branches."""
        if self._plan is None or not self._plan.removed_channels:
            return self._program
        return slim(self._program, replace(self._plan, settings={**self._plan.settings, "branches": []}))

    @cached_property
    def lost(self) -> set[str]:
        """The names of the groups that only the removed branches have."""
        if not self.branches:
            return set()
        coupling = self._program.coupling
        labels = [coupling.nodes.get(node.name) for node in self.left.graph.nodes]
        labels += [coupling.tensors.get(name) for name in self.left.tensors]
        numbers = {n for ids in labelled(labels) for n in np.unique(coupling.group_of[ids]).tolist()}
        return {group.name for number, group in enumerate(coupling.groups) if number not in numbers}

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The groups, each with those of its tensors that are left."""
        if not self.branches:
            return self._program.groups
        held = self.left.tensors
        return tuple(
            replace(group, members=tuple(member for member in group.members if member.tensor in held))
            for group in self._program.groups
        )

    def gone(self) -> list[Bools]:
        """Return which channels of each group are gone, all of them of a group that only removed branches have."""
        found = self.removed()
        return [out | (group.name in self.lost) for group, out in zip(self._program.groups, found, strict=True)]

    def removed(self) -> list[Bools]:
        """Return which channels of each group the earlier plan removes."""
        kept = self.kept
        return [~np.isin(np.arange(group.width), kept[group.name]) for group in self._program.groups]

    def costs(self, of: Callable[[Program], Costs]) -> Costs:
        """Return the cost of what is left, of which a share of the whole program's cost has to go."""
        whole = of(self._program)
        return whole if self._plan is None else _CostsOfRest(whole, of(self.left))


class _CostsOfRest:
    """The cost of what is left of a program; ``full`` is that of the whole program."""

    def __init__(self, whole: Costs, left: Costs) -> None:
        self.kind, self.full, self._left = whole.kind, whole.full, left

    def cost(self, widths: Any) -> float:
        """Return the cost when group ``k`` keeps ``widths[k]`` channels."""
        return self._left.cost(widths)

    def of_group(self, group: int, widths: Any) -> float:
        """Return the time of all layers that the width of a group changes."""
        return float(self._left.of_group(group, widths))  # type: ignore[attr-defined]
