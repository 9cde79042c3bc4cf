"""The predicted time of a program as a function of the widths of its groups, and plans that save time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np

from swdc.costs.latency.lowering import uses
from swdc.costs.latency.operator_kinds import Layer, Sizes
from swdc.costs.latency.table import LatencyTable
from swdc.ir.groups import Coupling, Ids
from swdc.ir.program import Program
from swdc.ops.call_cost import Quotient, Use
from swdc.sparsity.planning.budgets import Costs
from swdc.sparsity.planning.chooser import Chooser
from swdc.sparsity.planning.dimensions import Dimensions, Floats

LATENCY = "latency"
_LOOK_AHEAD = 32
"""How many channels a cut looks ahead: the size of the largest blocks that kernels compute as a whole."""
_NOTHING = 1e-9


@runtime_checkable
class TimedCosts(Costs, Protocol):
    """The predicted time of a program."""

    def of_group(self, group: int, widths: Ids) -> float:
        """Return the time of all that the width of a group changes, and perhaps more."""


class Latency:
    """The predicted time of a program in milliseconds, for a batch as in the example inputs.

    ``least`` gives the smallest widths that a plan may have. ``coupling`` is as for ``Dimensions``.
    """

    kind = LATENCY

    def __init__(self, program: Program, table: LatencyTable, least: Ids, coupling: Coupling | None = None) -> None:
        facts = program.facts
        batch = 1 if facts.batch is None else facts.symbols[facts.batch]
        self._table = table
        self._dimensions = Dimensions(program, batch, coupling)
        self._widths = self._dimensions.widths
        made = [_Term(use, self._dimensions) for use in uses(program, self._dimensions.shape_of)]
        largest, smallest = self._dimensions.sizes(self._widths), self._dimensions.sizes(least)
        self._terms = [term for term in made if term.bound(largest, smallest)]
        self._of_group: list[list[_Term]] = [[] for _ in self._widths]
        for term in self._terms:
            for group in term.groups:
                self._of_group[group].append(term)
        table.prepare([term.layer for term in self._terms])

    def cost(self, widths: Ids) -> float:
        """Return the time when group ``k`` keeps ``widths[k]`` channels."""
        return self._sum(self._terms, widths)

    @property
    def full(self) -> float:
        """The time with all channels."""
        return self.cost(self._widths)

    def of_group(self, group: int, widths: Ids) -> float:
        """Return the time of all layers that the width of a group changes."""
        return self._sum(self._of_group[group], widths)

    def _sum(self, terms: list[_Term], widths: Ids) -> float:
        sizes = self._dimensions.sizes(widths)
        return sum(self._table.ms(term.layer, term.sizes(sizes)) for term in terms)


class _Term:
    """One layer of a program; its sizes are looked up by the numbers of their dimensions."""

    layer: Layer

    def __init__(self, use: Use, dimensions: Dimensions) -> None:
        self._use = use
        self._factors = [_Factor(size, dimensions) for size in use.sizes]
        self.groups = sorted({group for factor in self._factors for group in factor.groups})

    def bound(self, largest: Floats, smallest: Floats) -> bool:
        """Note the sizes with all channels and with the fewest; return whether there is anything to compute."""
        bounds = self.sizes(largest), tuple(map(min, self.sizes(largest), self.sizes(smallest)))
        self.layer = Layer(self._use.operator, self._use.options, *bounds)
        return min(self.layer.largest) > 0

    def sizes(self, sizes: Floats) -> Sizes:
        """Return the sizes of the layer."""
        return tuple(factor.value(sizes) for factor in self._factors)


class _Factor:
    def __init__(self, size: Quotient, dimensions: Dimensions) -> None:
        self._coefficient = size.coefficient
        self._above = [dimensions.slot(value, dim) for value, dim in size.dims]
        self._below = [dimensions.slot(value, dim) for value, dim in size.over]
        self.groups = {int(g) for slot in (*self._above, *self._below) for g in dimensions.groups(slot)}

    def value(self, sizes: Floats) -> int:
        above = prod(sizes[slot] for slot in self._above) * self._coefficient
        return round(float(above / prod(sizes[slot] for slot in self._below)))


def fastest(chooser: Chooser, latency: TimedCosts, target: float) -> Ids:
    """Return widths whose predicted time meets the target, chosen to lose little score.

    Units of channels are removed in the order of the score lost for each millisecond saved. Units that kernels compute
    in one block are removed together. At the end channels are given back as far as the target allows, so that no cut
    stays that saves no time. Raises ``PlanError`` if the target cannot be met.
    """
    chooser.check(latency, chooser.least, target)
    widths = chooser.most.copy()
    least, now = chooser.least, latency.cost(widths)
    cutter = _Cutter(chooser, latency)
    queue = [(*cutter.best_cut(g, widths, least), g) for g in np.flatnonzero(widths > least).tolist()]
    heapq.heapify(queue)
    while now > target and queue:
        _, _, group = heapq.heappop(queue)
        price, width = cutter.best_cut(group, widths, least)  # others may have been cut since
        if queue and price > queue[0][0]:
            heapq.heappush(queue, (price, width, group))
            continue
        before = latency.of_group(group, widths)
        widths[group] = width
        now += latency.of_group(group, widths) - before
        if width > least[group]:
            heapq.heappush(queue, (*cutter.best_cut(group, widths, least), group))
    return cutter.filled(widths, target)


class _Cutter:
    """Weighs scores against time.

    A group of total score S that keeps a score K has the value S ln K. The first channels to be removed cost their own
    scores; the less is left, the more the next channels cost. So no group is cut to almost nothing because it is slow.
    """

    def __init__(self, chooser: Chooser, latency: TimedCosts) -> None:
        self._chooser, self._latency = chooser, latency
        self._values = [_values(chooser.scores(g) if free else np.zeros(0)) for g, free in enumerate(chooser.free)]

    def best_cut(self, group: int, widths: Ids, least: Ids) -> tuple[float, int]:
        """Return the score lost for each millisecond saved, and the width, of the cheapest cut of a group.

        If the next channels save no time, all further ones are tried; the price is infinite if no cut saves time.
        """
        tried, before = widths.copy(), self._latency.of_group(group, widths)
        best, start = (float("inf"), int(least[group])), int(widths[group])
        for width in self._narrower(group, start, int(least[group])):
            if start - width > _LOOK_AHEAD and best[0] < float("inf"):
                break
            tried[group] = width
            saved = before - self._latency.of_group(group, tried)
            if saved > _NOTHING:
                lost = self._values[group][start] - self._values[group][width]
                best = min(best, (float(lost / saved), width))
        return best

    def _narrower(self, group: int, width: int, least: int) -> Iterator[int]:
        unit = int(self._chooser.units[group])
        while width > least:
            width = max((width - 1) // unit * unit, least)
            yield width

    def filled(self, widths: Ids, target: float) -> Ids:
        """Give units back, those first that add the most score for each millisecond, as long as there is time left."""
        filled, now = widths.copy(), self._latency.cost(widths)
        while True:
            room = target - now
            offers = [self._best_offer(g, filled, room) for g in np.flatnonzero(filled < self._chooser.most).tolist()]
            best = max((offer for offer in offers if offer is not None), default=None)
            if best is None:
                return filled
            _, group, width = best
            filled[group] = width
            now = self._latency.cost(filled)

    def _best_offer(self, group: int, widths: Ids, room: float) -> tuple[float, int, int] | None:
        """Return score per millisecond, group and width of the best units to give back in ``room``, if any fit."""
        tried, before = widths.copy(), self._latency.of_group(group, widths)
        unit, start, whole = int(self._chooser.units[group]), int(widths[group]), int(self._chooser.most[group])
        best = None
        for width in range(start + unit, min(start + max(_LOOK_AHEAD, unit), whole + unit) + 1, unit):
            tried[group] = min(width, whole)
            added = self._latency.of_group(group, tried) - before
            if added <= room:
                gained = self._values[group][tried[group]] - self._values[group][start]
                offer = (float(gained / max(added, _NOTHING)), group, int(tried[group]))
                best = offer if best is None else max(best, offer)
        return best


def _values(scores: Floats) -> Floats:
    """Return the value of a group at every width from zero on, given its scores, the best first."""
    kept = np.concatenate([[0.0], np.cumsum(scores - min(scores.min(initial=0.0), 0.0))])
    total = float(kept[-1]) or 1.0
    values: Floats = total * np.log(np.maximum(kept, total * np.finfo(np.float64).eps))
    return values
