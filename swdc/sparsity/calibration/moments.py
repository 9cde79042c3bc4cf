"""Second moments of what layers read, from which least squares solves for their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import fx

from swdc.errors import PlanError
from swdc.ir.call import Ref
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.affine_rows import AffineRows
from swdc.sparsity.calibration.points import Point


def solvable(program: Program) -> dict[str, AffineRows]:
    """Return, by the name of its weight, how each layer that no other shares its weight with applies its matrix."""
    tensors, found = program.tensors, dict[str, AffineRows]()
    readers: dict[int, int] = {}
    for _, call in calls(program).values():
        for name in {id(tensors[v]) for v in call.tensors() if not isinstance(v, fx.Node)}:
            readers[name] = readers.get(name, 0) + 1
    for operator, call in calls(program).values():
        rows = operator.affine_rows(call)
        if rows is None or not rows.has_matrix(tensors[rows.weight]):
            continue
        if all(readers[id(tensors[name])] == 1 for name in (rows.weight, rows.bias) if name is not None):
            found[str(rows.weight)] = rows
    return found


@dataclass
class Moments:
    """Sums of products of all pairs of columns that layers read, in float64; layers that read alike share one.

    The last column is one for each row, so that the last row of a sum holds the sums of the columns.
    """

    layers: Mapping[Point, AffineRows]
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """What each weight reads: the same text for the same columns."""
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, program: Program, points: Sequence[Point], wanted: bool | Iterable[str]) -> Moments:
        """Return empty sums for the layers that read channels of groups, or for those whose weight matches a pattern.

        Raises ``PlanError`` for a pattern that matches none.
        """
        patterns = () if wanted is False else ("*",) if wanted is True else tuple(wanted)
        known = solvable(program)
        layers = {
            point: known[point.weight]
            for point in points
            if point.is_input and point.weight in known and known[point.weight].input_dim == point.weight_dim
        }
        names = sorted({point.weight for point in layers})
        for pattern in patterns if wanted is not True else ():
            if not any(fnmatchcase(name, pattern) for name in names):
                raise PlanError(
                    f"expected moments of weights that read channels, but {pattern!r} matches none; such weights are "
                    f"{', '.join(names[:3]) or 'none'}"
                )
        chosen = {p: rows for p, rows in layers.items() if any(fnmatchcase(p.weight, each) for each in patterns)}
        return cls(chosen, keys={point.weight: _key(program, point, rows) for point, rows in chosen.items()})

    def begin(self) -> None:
        """Say that a batch begins: each value counts once for a batch."""
        self._seen.clear()

    def see(self, point: Point, value: torch.Tensor, shape: torch.Size) -> None:
        """Add the rows that a layer takes from a value."""
        layer = self.layers.get(point)
        key = self.keys.get(point.weight, "")
        if layer is None or key in self._seen:
            return
        self._seen.add(key)
        for rows in layer.rows(value, shape):
            columns = torch.cat([rows.double(), rows.new_ones(len(rows), 1, dtype=torch.float64)], 1)
            found = (columns.T @ columns).cpu()
            held = self.sums.get(key)
            self.sums[key] = found if held is None else held.add_(found)

    def means(self) -> dict[str, torch.Tensor]:
        """Return the second moments for each weight: the means of the products of two columns."""
        return {name: self.sums[key] / self.sums[key][-1, -1] for name, key in self.keys.items() if key in self.sums}


def _key(program: Program, point: Point, rows: AffineRows) -> str:
    """Return what a layer reads as a text: its value, its operator, the size of its kernel and its options."""
    _, call = calls(program)[point.node]
    tensors = (fx.Node, Ref)
    options = sorted((key, str(v)) for key, v in call.arguments.items() if v is not None and not isinstance(v, tensors))
    kernel = () if rows.inputs_first else tuple(program.tensors[point.weight].shape[2:])
    return f"{point.value.name} {call.operator} {kernel} {options}"
