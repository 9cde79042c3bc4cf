"""The sizes of the dimensions of a program, as linear functions of the numbers of kept channels of its groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from swdc.costs.counted_sizes import sizes_at
from swdc.ir.call import Ref, Value
from swdc.ir.groups import Coupling, Ids
from swdc.ir.program import Program
from swdc.ops import shapes_of

Floats = npt.NDArray[np.float64]
ONE = 0
"""The slot of the constant one."""
_FEW = 2**16
"""Up to this many entries, a full matrix is faster than a sparse one."""
_NONE, _NOTHING = np.zeros(0, dtype=np.int64), np.zeros(0)


class Dimensions:
    """Numbers the dimensions that are asked for, and gives the size of each for any widths of the groups.

    ``coupling`` is that of another program, of which this one is a part with the same names.
    """

    def __init__(self, program: Program, batch: int = 1, coupling: Coupling | None = None) -> None:
        self.coupling = program.coupling if coupling is None else coupling
        self.widths = np.array([g.width for g in self.coupling.groups], dtype=np.int64)
        self.shape_of = shapes_of(program, sizes_at(program, batch))
        self._slots: dict[Any, int] = {}
        self._constant: list[float] = [1.0]
        self._linear: list[tuple[int, Ids, Floats]] = []
        self._assembled: tuple[csr_array | Floats, Floats] | None = None

    def slot(self, value: Value, dim: int) -> int:
        """Return the number of a dimension of a value."""
        key = (str(value), dim, isinstance(value, Ref))
        if key not in self._slots:
            table = self.coupling.tensors if isinstance(value, Ref) else self.coupling.nodes
            labels = table.get(str(value))
            ids = labels[dim] if labels is not None else None
            if ids is None:
                self._slots[key] = self.add(self.shape_of(value)[dim])
            else:
                of = self.coupling.group_of[ids]
                groups, counts = np.unique(of[of >= 0], return_counts=True)
                periods = self.shape_of(value)[dim] // len(ids)  # more than one where heads are merged with the batch
                self._slots[key] = self.add(
                    periods * int((of < 0).sum()), groups, periods * counts / self.widths[groups]
                )
        return self._slots[key]

    def add(self, constant: int, groups: Ids = _NONE, multiples: Floats = _NOTHING) -> int:
        """Add a size, which is a constant plus multiples of the widths of some groups, and return its number."""
        self._linear.append((len(self._constant), groups, multiples))
        self._constant.append(constant)
        self._assembled = None
        return len(self._constant) - 1

    def share(self, group: int) -> int:
        """Return the number of a size that is the share of its channels which a group keeps."""
        return self.add(0, np.array([group]), 1 / self.widths[[group]])

    def form(self, slot: int) -> tuple[Any, ...]:
        """Return a size as plain data, alike for dimensions that are always of the same size."""
        if slot == ONE:
            return (1.0,)
        _, groups, multiples = self._linear[slot - 1]
        return self._constant[slot], tuple(groups.tolist()), tuple(multiples.tolist())

    @property
    def count(self) -> int:
        """How many sizes have numbers, the constant one among them."""
        return len(self._constant)

    def groups(self, slot: int) -> Ids:
        """Return the groups whose widths enter a size."""
        return _NONE if slot == ONE else self._linear[slot - 1][1]

    def sizes(self, widths: Ids) -> Floats:
        """Return the size of every numbered dimension when group ``k`` keeps ``widths[k]`` channels."""
        if self._assembled is None:
            matrix = self._matrix()
            few = matrix.shape[0] * matrix.shape[1] <= _FEW
            self._assembled = matrix.toarray() if few else matrix, np.array(self._constant)
        matrix, constants = self._assembled
        sizes: Floats = matrix @ widths + constants
        return sizes

    def _matrix(self) -> csr_array:
        shape = (len(self._constant), len(self.widths))
        if not self._linear:
            return csr_array(shape)
        rows = np.concatenate([np.full(len(groups), slot) for slot, groups, _ in self._linear])
        columns, values = (np.concatenate(x) for x in list(zip(*self._linear, strict=True))[1:])
        return csr_array((values, (rows, columns)), shape=shape)
