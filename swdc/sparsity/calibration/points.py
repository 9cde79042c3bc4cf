"""Where the channels of a program are observed: at the layers that read them.

A channel is a set of labels of the dependency analysis. A layer reads it where one of its arguments and its weight have
these labels. Channels that no layer reads (queries and keys, of which only a product is read) are observed in what the
layers return that write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import fx

from swdc.ir.call import Ref
from swdc.ir.graph import SHAPE
from swdc.ir.groups import READS, WRITES, Ids
from swdc.ir.program import Program
from swdc.ops import calls


@dataclass(frozen=True, eq=False)
class Point:
    """One dimension of a value that holds channels of groups, and the call at which it is seen.

    ``value`` is an argument of ``node``, or ``node`` itself. ``ids`` are the labels along ``dim`` of the value.
    ``weight`` and ``weight_dim`` say which dimension of which tensor has these labels.
    """

    node: fx.Node
    value: fx.Node
    dim: int
    ids: Ids
    weight: str
    weight_dim: int

    @property
    def is_input(self) -> bool:
        """Whether the value is read by the call, not returned."""
        return self.value is not self.node

    def batch_dim(self, batch: str | None) -> int | None:
        """Return the dimension of the value that is the batch, if one is nothing else."""
        sizes = [str(size) for size in self.value.meta[SHAPE]]
        return sizes.index(batch) if batch in sizes else None


def points_of(program: Program) -> list[Point]:
    """Return where the channels of the groups of a program are observed, in the order of the graph."""
    read = list(_points(program, READS))
    seen = {group for point in read for group in groups_at(program, point)}
    return read + [point for point in _points(program, WRITES) if not seen.issuperset(groups_at(program, point))]


def groups_at(program: Program, point: Point) -> set[int]:
    """Return the numbers of the groups whose channels a value holds."""
    found = np.unique(program.coupling.group_of[point.ids])
    return set(found[found >= 0].tolist())


def placed(program: Program, points: Iterable[Point]) -> dict[Point, list[tuple[int, Ids]]]:
    """Return for each point the numbers of the groups that it holds whole, with the positions of their channels."""
    found = {
        point: [(number, positions(program, number, point.ids)) for number in sorted(groups_at(program, point))]
        for point in points
    }
    return {point: [(n, where) for n, where in places if where is not None] for point, places in found.items()}


def positions(program: Program, number: int, ids: Ids) -> Ids | None:
    """Return where the channels of a group lie among labels, shape ``(width, times)``; ``None`` if some are missing."""
    coupling = program.coupling
    here = np.flatnonzero(coupling.group_of[ids] == number)
    order = here[np.argsort(coupling.channel_of[ids[here]], kind="stable")]
    width = coupling.groups[number].width
    times = np.bincount(coupling.channel_of[ids[here]], minlength=width)
    if len(here) == 0 or bool((times != times[0]).any()):
        return None
    return order.reshape(width, -1)


def numbers_of(program: Program) -> dict[str, int]:
    """Return the number of each group by its name."""
    return {name: number for number, name in enumerate(program.coupling.names())}


def _points(program: Program, role: str) -> Iterator[Point]:
    coupling, tensors = program.coupling, program.tensors
    slots = {(id(tensors[m.tensor]), m.dim) for group in coupling.groups for m in group.with_role(role)}
    for node, (_, call) in calls(program).items():
        weights = [value for value in call.tensors() if isinstance(value, Ref)]
        values = [node] if role == WRITES else [value for value in call.tensors() if isinstance(value, fx.Node)]
        for weight, value in product(dict.fromkeys(weights), dict.fromkeys(values)):
            for dim, ids in enumerate(coupling.tensors.get(weight, ())):
                if ids is None or (id(tensors[weight]), dim) not in slots:
                    continue
                place = _dim_with(program, value, ids)
                if place is not None:
                    yield Point(node, value, *place, str(weight), dim)


def _dim_with(program: Program, value: fx.Node, ids: Ids) -> tuple[int, Ids] | None:
    """Return the dimension of a value that holds all of these labels, and its labels; none that repeats."""
    shape = value.meta.get(SHAPE) or ()
    for dim, own in enumerate(program.coupling.nodes.get(value.name, ())):
        if isinstance(own, np.ndarray) and shape[dim] == len(own) and bool(np.isin(ids, own).all()):
            return dim, own
    return None
