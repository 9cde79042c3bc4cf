"""Groups that play the same part in repeated blocks, such as the feed-forward layers of a transformer, plan as one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from swdc.ir.call import Ref, values_in
from swdc.ir.groups import Ids, Member
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.planning.criteria import Scores


@dataclass(frozen=True)
class Parts:
    """Which groups keep the same number of channels: those with the same number in ``of``."""

    of: Ids

    @classmethod
    def from_keys(cls, keys: Iterable[Hashable]) -> Parts:
        """Return the parts of groups that have equal keys."""
        numbers: dict[Hashable, int] = {}
        return cls(np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64))

    @property
    def firsts(self) -> Ids:
        """The first group of each part."""
        found: Ids = np.unique(self.of, return_index=True)[1]
        return found

    def scores(self, scores: Scores) -> Scores:
        """Return the scores of each part: the mean, over its groups, of the best channel, of the second best, ..."""
        merged: Scores = []
        for part in range(len(self.firsts)):
            found = [scores[group] for group in np.flatnonzero(self.of == part).tolist()]
            ordered = [np.sort(each)[::-1] for each in found if each is not None]
            merged.append(np.mean(ordered, axis=0) if ordered else None)
        return merged

    @property
    def counts(self) -> Ids:
        """The number of groups of each part."""
        return np.bincount(self.of)

    def costs(self, costs: Costs) -> Costs:
        """Return the cost of a program as a function of the widths of the parts."""
        return costs if len(self.of) == len(self.firsts) else _CostsOfParts(costs, self)

    def spread(self, widths: Ids) -> Ids:
        """Return the width of each group, given that of each part."""
        spread: Ids = widths[self.of]
        return spread


class _CostsOfParts:
    """The cost of a program as a function of the widths of its parts."""

    def __init__(self, costs: Costs, parts: Parts) -> None:
        self.kind, self.full = costs.kind, costs.full
        self._costs, self._parts = costs, parts

    def cost(self, widths: Ids) -> float:
        """Return the cost when every group of part ``k`` keeps ``widths[k]`` channels."""
        return self._costs.cost(self._parts.spread(widths))

    def of_group(self, part: int, widths: Ids) -> float:
        """Return the cost; all of it, because the groups of a part share layers."""
        return self.cost(widths)


def roles_of(program: Program) -> list[Hashable]:
    """Return a key for each group that is equal for groups which play the same part.

    Such groups have the same width, and their tensors are arguments of the same operators and have the same sizes,
    except those that belong to other groups: the first block of a stage may read fewer channels than the others. Names
    play no role.
    """
    used, tensors = _uses(program), program.tensors
    grouped = {(m.tensor, m.dim) for group in program.groups for m in group.members}

    def sizes(tensor: str) -> tuple[int, ...]:
        return tuple(-1 if (tensor, dim) in grouped else size for dim, size in enumerate(tensors[tensor].shape))

    def member(m: Member) -> tuple[Any, ...]:
        return sizes(m.tensor), m.dim, m.multiplicity, tuple(sorted(m.roles)), used[m.tensor]

    return [(group.width, tuple(sorted(map(member, group.members)))) for group in program.groups]


def _uses(program: Program) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return for each tensor the operators that read it, each with the argument that it is."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in program.tensors}
    for _, call in calls(program).values():
        for argument, given in call.arguments.items():
            for value in values_in([given]):
                if isinstance(value, Ref):
                    found[str(value)].append((call.operator, argument))
    return {name: tuple(sorted(uses)) for name, uses in found.items()}
