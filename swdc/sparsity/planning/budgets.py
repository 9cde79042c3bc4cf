"""The cost of a plan, as a closed formula over the numbers of channels that the groups keep.

The size of every dimension is linear in these numbers; parameters and operations are sums of products of sizes. There
is one more term: a layer without a bias is given one as soon as a removed channel leaves a constant to be folded.
Parameters that vanish whole with single channels count by how many are left, if each channel takes as much along. If
it depends on which channels go, no formula over their number says how much: such parameters count as if they stayed,
so that a plan removes what was asked, or more. The model itself is not touched, so that a threshold is found by
bisection in microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch

from swdc.analysis.heads import HEADS
from swdc.errors import PlanError, told_as
from swdc.ir.call import Ref
from swdc.ir.groups import Coupling, Ids
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.sparsity.planning.dimensions import ONE, Dimensions
from swdc.sparsity.planning.vanishing import vanishing

Term = tuple[float, list[int]]
"""A coefficient, and the numbers of the dimensions that it is multiplied by."""


Terms = Callable[[Program, Dimensions], Sequence[Term]]
"""A budget: a function that returns the terms of a sum. It numbers sizes with ``dimensions.slot(value, dim)``."""


class Costs(Protocol):
    """A cost that grows with the widths of the groups; a budget is a share of it."""

    kind: str

    def cost(self, widths: Ids) -> float:
        """Return the cost when group ``k`` keeps ``widths[k]`` channels."""

    @property
    def full(self) -> float:
        """The cost with all channels."""


class Budget:
    """The cost of a program as a function of the widths of its groups."""

    def __init__(self, program: Program, kind: str | Terms, coupling: Coupling | None = None) -> None:
        """``kind`` is one of ``BUDGETS``, or a function; ``PlanError`` if it is neither, or if the function fails.

        ``coupling`` is as for ``Dimensions``.
        """
        if isinstance(kind, str) and kind not in BUDGETS:
            raise PlanError(f"expected a budget of {list(BUDGETS)}, got {kind!r}")
        self.kind, self._is_count = name_of_budget(kind), isinstance(kind, str)
        self._dimensions = Dimensions(program, coupling=coupling)
        self._widths = self._dimensions.widths
        found = BUDGETS[kind](program, self._dimensions) if isinstance(kind, str) else self._asked(kind, program)
        longest = max((len(slots) for _, slots in found), default=1)
        factors = np.array([slots + [ONE] * (longest - len(slots)) for _, slots in found], dtype=np.int64)
        self._factors = np.ascontiguousarray(factors.T)
        self._coefficients = np.array([coefficient for coefficient, _ in found], dtype=np.float64)
        self._new_biases = self._folding(program, kind == BYTES) if kind in (PARAMETERS, BYTES) else []

    def _asked(self, function: Terms, program: Program) -> list[Term]:
        """Return the terms of a function of the user's; ``PlanError`` if they are no terms, or are negative."""
        expected = f"a budget that returns terms (coefficient, numbers of sizes), got {self.kind!r}"
        with told_as(PlanError, expected, "see BUDGETS in swdc.sparsity.planning.budgets for examples"):
            found = [
                (float(coefficient), [*map(int, slots)]) for coefficient, slots in function(program, self._dimensions)
            ]
            known = range(self._dimensions.count)
            if not all(0 <= coefficient < np.inf and all(s in known for s in slots) for coefficient, slots in found):
                raise ValueError("a coefficient is negative or not finite, or a number is not one that slot returned")
        return found

    def cost(self, widths: Ids) -> float:
        """Return the cost when group ``k`` keeps ``widths[k]`` channels."""
        if self._factors.size == 0:
            return 0
        sizes = self._dimensions.sizes(widths)
        fewer = widths < self._widths
        biases = sum(each * float(sizes[slot]) for groups, slot, each in self._new_biases if fewer[groups].any())
        cost = float(self._coefficients @ np.multiply.reduce(sizes[self._factors])) + biases
        return round(cost) if self._is_count else cost

    @property
    def full(self) -> float:
        """The cost with all channels."""
        return self.cost(self._widths)

    def _folding(self, program: Program, in_bytes: bool) -> list[tuple[Ids, int, int]]:
        """Return, for each layer that may get a bias, the groups whose cut requires it, the slot of its size, and what
        each of its elements costs.
        """  # fmt: skip
        coupling, found = self._dimensions.coupling, []
        for node, (_, call) in calls(program).items():
            constants = coupling.constants.get(node.name)
            if constants is None or call["bias"] is not None:
                continue
            ids = coupling.tensors[call["weight"]][1]
            assert ids is not None
            groups = np.unique(coupling.group_of[ids[constants != 0]])
            each = program.tensors[str(call["weight"])].element_size() if in_bytes else 1
            found.append((groups[groups >= 0], self._dimensions.slot(call["weight"], 0), each))
        return found


def name_of_budget(budget: str | Terms) -> str:
    """Return the name of a budget, as the settings of a plan hold it."""
    return budget if isinstance(budget, str) else str(getattr(budget, "__name__", type(budget).__name__))


class NumberOfHeads:
    """The total number of heads that some groups keep; ``numbers`` are those of the groups."""

    kind = HEADS

    def __init__(self, program: Program, numbers: Iterable[int]) -> None:
        self._numbers = list(numbers)
        self.full = float(sum(program.groups[number].width for number in self._numbers))

    def cost(self, widths: Ids) -> float:
        """Return how many heads are left when group ``k`` keeps ``widths[k]`` of them."""
        return float(widths[self._numbers].sum())


def _channels(program: Program, dimensions: Dimensions) -> list[Term]:
    groups = range(len(dimensions.coupling.groups))
    return [(1, [dimensions.add(0, np.array([group]), np.ones(1))]) for group in groups]


def _parameters(program: Program, dimensions: Dimensions) -> list[Term]:
    return _stored(program, dimensions, program.read_parameters(), lambda tensor: 1)


def _bytes(program: Program, dimensions: Dimensions) -> list[Term]:
    return _stored(program, dimensions, program.read_state(), torch.Tensor.element_size)


def _stored(
    program: Program, dimensions: Dimensions, tensors: Mapping[str, torch.Tensor], each: Callable[[torch.Tensor], int]
) -> list[Term]:
    """Return a term for each tensor: its sizes, and the share of such tensors that is left if they vanish whole."""
    left = vanishing(program, dimensions, tensors)
    return [
        (each(tensor), [*(dimensions.slot(Ref(name), dim) for dim in range(tensor.dim())), *left.get(name, ())])
        for name, tensor in tensors.items()
    ]


def _counted(program: Program, dimensions: Dimensions, convention: str) -> list[Term]:
    terms: list[Term] = []
    for operator, call in calls(program).values():
        for cost in operator.cost(call, dimensions.shape_of):
            slots = [dimensions.slot(value, dim) for value, dim in cost.dims]
            terms.append((int(getattr(cost, convention)), slots))
    return terms


CHANNELS, PARAMETERS, BYTES = "channels", "parameters", "bytes"
BUDGETS: dict[str, Callable[[Program, Dimensions], list[Term]]] = {
    CHANNELS: _channels,
    PARAMETERS: _parameters,
    BYTES: _bytes,
    "operations": partial(_counted, convention="paper"),
    "macs": partial(_counted, convention="macs"),
}
"""The terms of which each budget is the sum.

Bytes are those of the parameters and buffers that a checkpoint holds. Operations (section 4.5 of Tessier et al. 2022)
and multiply-adds are those of ``swdc.count`` for one sample.
"""
