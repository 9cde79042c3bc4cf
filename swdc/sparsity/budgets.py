"""What a plan costs, as a closed formula over the numbers of kept channels of the groups.

The size of every dimension is linear in these numbers; parameters and operations are sums of products of sizes. One
thing is added: a layer without a bias is given one as soon as a channel goes that leaves a constant to be folded.
Nothing of the model is touched to evaluate them, so that a threshold is found by bisection in microseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from swdc.call import Ref, Value
from swdc.errors import PlanError
from swdc.groups import Ids
from swdc.ops import calls, shapes_of
from swdc.program import Program

BUDGETS = ("channels", "parameters", "operations")
Floats = npt.NDArray[np.float64]
_NONE, _NOTHING = np.zeros(0, dtype=np.int64), np.zeros(0)


class Budget:
    """The cost of a program as a function of the widths of its groups."""

    def __init__(self, program: Program, kind: str) -> None:
        """``kind`` is ``channels``, ``parameters`` or ``operations`` (section 4.5 of the paper)."""
        if kind not in BUDGETS:
            raise PlanError(f"expected a budget of {list(BUDGETS)}, got {kind!r}")
        self.kind = kind
        self._coupling = program.coupling
        self._shape_of = shapes_of(program, program.facts.sizes())
        self._widths = np.array([g.width for g in program.groups], dtype=np.int64)
        self._slots: dict[Any, int] = {}
        self._constant: list[float] = [1.0]  # slot 0 is the constant one
        self._linear: list[tuple[int, Ids, Floats]] = []
        terms = {"channels": self._channels, "parameters": self._parameters, "operations": self._operations}
        found = terms[kind](program)
        longest = max((len(slots) for _, slots in found), default=1)
        self._factors = np.array([slots + [0] * (longest - len(slots)) for _, slots in found], dtype=np.int64)
        self._coefficients = np.array([coefficient for coefficient, _ in found], dtype=np.float64)
        self._new_biases = self._folding(program) if kind == "parameters" else []
        self._constants, self._matrix = np.array(self._constant), self._assembled()

    def cost(self, widths: Ids) -> int:
        """Return the cost when group ``k`` keeps ``widths[k]`` channels."""
        if len(self._factors) == 0:
            return 0
        sizes = self._matrix @ widths + self._constants
        biases = sum(float(sizes[slot]) for groups, slot in self._new_biases if (widths < self._widths)[groups].any())
        return round(float((self._coefficients * sizes[self._factors].prod(1)).sum()) + biases)

    @property
    def full(self) -> int:
        """The cost with all channels."""
        return self.cost(self._widths)

    def _slot(self, value: Value, dim: int) -> int:
        key = (str(value), dim, isinstance(value, Ref))
        if key not in self._slots:
            table = self._coupling.tensors if isinstance(value, Ref) else self._coupling.nodes
            labels = table.get(str(value))
            ids = labels[dim] if labels is not None else None
            if ids is None:
                self._slots[key] = self._new(self._shape_of(value)[dim])
            else:
                of = self._coupling.group_of[ids]
                groups, counts = np.unique(of[of >= 0], return_counts=True)
                self._slots[key] = self._new(int((of < 0).sum()), groups, counts / self._widths[groups])
        return self._slots[key]

    def _new(self, constant: int, groups: Ids = _NONE, multiples: Floats = _NOTHING) -> int:
        """Add a size: a constant, and multiples of the widths of some groups."""
        self._linear.append((len(self._constant), groups, multiples))
        self._constant.append(constant)
        return len(self._constant) - 1

    def _assembled(self) -> csr_array:
        shape = (len(self._constant), len(self._widths))
        if not self._linear:
            return csr_array(shape)
        rows = np.concatenate([np.full(len(groups), slot) for slot, groups, _ in self._linear])
        columns, values = (np.concatenate(x) for x in list(zip(*self._linear, strict=True))[1:])
        return csr_array((values, (rows, columns)), shape=shape)

    def _channels(self, program: Program) -> list[tuple[int, list[int]]]:
        return [(1, [self._new(0, np.array([group]), np.ones(1))]) for group in range(len(self._widths))]

    def _parameters(self, program: Program) -> list[tuple[int, list[int]]]:
        parameters = program.read_parameters().items()
        return [(1, [self._slot(Ref(name), d) for d in range(tensor.dim())]) for name, tensor in parameters]

    def _folding(self, program: Program) -> list[tuple[Ids, int]]:
        """Return, for each layer that would be given a bias, the groups that ask for it when cut, and its slot."""
        found = []
        for node, (_, call) in calls(program).items():
            constants = self._coupling.constants.get(node.name)
            if constants is None or call["bias"] is not None:
                continue
            ids = self._coupling.tensors[call["weight"]][1]
            assert ids is not None
            groups = np.unique(self._coupling.group_of[ids[constants != 0]])
            found.append((groups[groups >= 0], self._slot(call["weight"], 0)))
        return found

    def _operations(self, program: Program) -> list[tuple[int, list[int]]]:
        terms = []
        for operator, call in calls(program).values():
            for cost in operator.cost(call, self._shape_of):
                terms.append((cost.paper, [self._slot(value, dim) for value, dim in cost.dims]))
        return terms
