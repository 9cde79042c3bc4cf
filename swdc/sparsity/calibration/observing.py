"""A run of a program in which the channels of its groups are observed, with their gradients if these are asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from swdc.analysis.branches import branches_of
from swdc.ir.groups import Ids
from swdc.ir.program import Program
from swdc.rewriting.branches import blocks_of, layers_of
from swdc.sparsity.calibration.points import Point

See = Callable[[Point, torch.Tensor], None]


class Observing(fx.Interpreter):
    """Runs the graph of a program and shows the value at each point to ``see``.

    With ``products``, each point gets an alias of the value, whose gradient is that of this use alone, and the
    products of gradient and value are added up there as soon as the gradient is known, so that none is kept.
    """

    def __init__(
        self,
        program: Program,
        points: Sequence[Point],
        see: See,
        products: Products | None = None,
        influences: Influences | None = None,
    ) -> None:
        super().__init__(program.held, graph=program.graph)
        self._influences = influences
        self._points: dict[fx.Node, list[Point]] = defaultdict(list)
        for point in points:
            self._points[point.node].append(point)
        self._see, self._products = see, products

    def run_node(self, n: fx.Node) -> Any:
        """Return the result of a node."""
        points = self._points.get(n, [])
        before: dict[fx.Node, Any] = {}
        for point in points:
            if point.is_input:
                before.setdefault(point.value, self.env[point.value])
                self.env[point.value] = self._shown(point, self.env[point.value])
        result = super().run_node(n)
        if self._influences is not None:
            self._influences.see(n, self.env, result)
        self.env.update(before)
        for point in points:
            if not point.is_input:
                result = self._shown(point, result)
        return result

    def _shown(self, point: Point, value: torch.Tensor) -> torch.Tensor:
        self._see(point, value.detach())
        return value if self._products is None else self._products.watched(point, value)


class Products:
    """The sums of gradient times activation of one batch: for each group, one for each sample and channel.

    ``sums`` has shape ``(samples, width)`` for each number of a group. Values without a dimension for the batch alone
    count as one sample.
    """

    def __init__(self, batch: str | None, places: Mapping[Point, Sequence[tuple[int, Ids]]]) -> None:
        """``batch`` names the size of the batch; ``places`` says which channels lie where in the value of a point."""
        self.sums: dict[int, torch.Tensor] = {}
        self.starts: list[torch.Tensor] = []
        """Aliases that stand where no parameter before them takes a gradient."""
        self._batch, self._places = batch, places

    def watched(self, point: Point, value: torch.Tensor) -> torch.Tensor:
        """Return an alias of a value whose gradient is added up."""
        if not value.is_floating_point():
            return value
        alias = value.view_as(value) if value.requires_grad else value.detach().requires_grad_()
        if not value.requires_grad:
            self.starts.append(alias)
        alias.register_hook(lambda gradient: self._add(point, gradient, value.detach()))  # type: ignore[no-untyped-call]
        return alias

    def _add(self, point: Point, gradient: torch.Tensor, value: torch.Tensor) -> None:
        change = (gradient * value).double().movedim(point.dim, -1)
        batch = point.batch_dim(self._batch)
        if batch is None:
            change = change.reshape(1, -1, change.shape[-1])
        else:
            change = change.movedim(batch - (batch > point.dim), 0)
            change = change.reshape(len(change), -1, change.shape[-1])
        by_channel = change.sum(1)
        for number, where in self._places[point]:
            sums = by_channel[:, torch.from_numpy(where).to(value.device)].sum(2).cpu()
            held = self.sums.get(number)
            if held is not None and len(held) != len(sums):  # one of the two knows no samples
                held, sums = held.sum(0, keepdim=True), sums.sum(0, keepdim=True)
            self.sums[number] = sums if held is None else held + sums


class Influences:
    """Sums of one less the cosine between residual streams before and after branches or layers, by their names."""

    def __init__(self, program: Program) -> None:
        nodes = {node.name: node for node in program.graph.nodes}
        known, labels = branches_of(program), program.coupling.nodes
        self._begins: dict[fx.Node, list[tuple[str, fx.Node]]] = defaultdict(list)
        self._ends: dict[fx.Node, list[str]] = defaultdict(list)
        for unit, names in {**blocks_of(program), **layers_of(program)}.items():
            first, last = known[names[0]], known[names[-1]]
            self._begins[nodes[first.total]].append((unit, nodes[first.stream]))
            self._ends[nodes[last.total]].append(unit)
        self._dims = {
            total: next((d for d, ids in enumerate(labels.get(total.name, ())) if ids is not None), -1)
            for total in self._ends
        }
        self._held: dict[str, torch.Tensor] = {}
        self._sums: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def see(self, node: fx.Node, values: Mapping[fx.Node, Any], result: Any) -> None:
        """Add what a sum does to its stream."""
        for unit, stream in self._begins.get(node, ()):
            self._held[unit] = values[stream].detach()
        for unit in self._ends.get(node, ()):
            after = result.detach()
            before = self._held.pop(unit).reshape(after.shape)  # a stream may be flattened on its way
            found = 1 - torch.cosine_similarity(before.double(), after.double(), dim=self._dims[node])
            self._sums[unit] = self._sums.get(unit, 0.0) + float(found.sum())
            self._rows[unit] = self._rows.get(unit, 0) + found.numel()

    def means(self) -> dict[str, float]:
        """Return the means over samples and positions."""
        return {unit: total / max(self._rows[unit], 1) for unit, total in self._sums.items()}
