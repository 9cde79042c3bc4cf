"""Turns a run on symbols into a graph: sizes become expressions, and numbers become nodes that compute them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn

from swdc.capture.captured_graph import Value
from swdc.capture.graph_of_runs import Joining
from swdc.capture.real_numbers import Real
from swdc.capture.runs import Run
from swdc.capture.size_sums import Atom, Sum, symbol, value_of
from swdc.capture.solved_sizes import SolvedSizes
from swdc.ir.sizes import Size
from swdc.ops.creation import size_of
from swdc.ops.number_nodes import NUMBERS, number_of

_NUMBERS = {"//": "whole quotient", "max": "larger", "min": "smaller"}


class OfSymbols(Joining):
    """Makes the graph of one run on symbols. ``shapes`` are those of the inputs, ``None`` for what is no tensor."""

    def __init__(
        self, model: nn.Module, leaves: list[tuple[str, Any]], run: Run, shapes: Sequence[Any], solved: SolvedSizes
    ) -> None:
        self.solved, self._shapes = solved, list(shapes)
        self._places: dict[str, tuple[fx.Node, int]] = {}
        self._numbers: dict[Any, fx.Node] = {}
        super().__init__(model, leaves, run, run)

    def _placeholder(self, leaf: Any, name: str) -> fx.Node:
        node = self.graph.placeholder(name)
        shape = self._shapes.pop(0)
        if shape is None:
            return node
        sizes = [self._of_input(size) for size in shape]
        for dim, size in enumerate(sizes):
            for free in size.symbols if size == symbol(next(iter(size.symbols), "")) else ():
                self._places.setdefault(free, (node, dim))
        node.meta["val"] = Value(tuple(map(self._expression, sizes)), leaf.dtype)
        return node

    def _of_input(self, size: Sum) -> Sum:
        return self.solved.of_input(*size.symbols) if size.constant is None else size

    def _expression(self, final: Sum) -> Size:
        return self.solved.expression(final)

    def _size(self, one: Any, other: Any) -> Size:
        return self.solved.size(one) if isinstance(one, Sum) else int(one)

    def _both(self, one: Any, other: Any) -> Any:
        if isinstance(one, Sum):
            return self._sum(self.solved.final(one))
        return self._real(one) if isinstance(one, Real) else super()._both(one, other)

    # -- numbers ------------------------------------------------------------------------------------------------

    def _sum(self, size: Sum) -> fx.Node | int:
        """Return the node of a size in final form; a number if it is constant."""
        if size.constant is not None:
            return size.constant
        if size not in self._numbers:
            total: Any = None
            for product, times in sorted(size.terms.items(), key=lambda term: (not term[0], term[1] < 0)):
                term: Any = None
                for atom in product:
                    term = self._atom(atom) if term is None else self._computed("product", term, self._atom(atom))
                term = times if term is None else term if times == 1 else self._computed("product", term, times)
                total = term if total is None else self._computed("sum", total, term)
            self._numbers[size] = total
        return self._numbers[size]

    def _atom(self, atom: Atom) -> Any:
        key = Sum({(atom,): 1})
        if key not in self._numbers:
            if atom.of:
                self._numbers[key] = self._computed(_NUMBERS[atom.kind], *map(self._sum, atom.of))
            else:
                node, dim = self._places[atom.kind]
                self._numbers[key] = self._without_value(size_of(node, dim))
        return self._numbers[key]

    def _real(self, real: Real) -> Any:
        if real not in self._numbers:
            parts = [self._both(part, part) for part in real.parts]
            if not any(isinstance(part, fx.Node) for part in parts):
                return float(NUMBERS[real.operation](*parts))
            self._numbers[real] = self._computed(real.operation, *parts)
        return self._numbers[real]

    def _computed(self, name: str, *parts: Any) -> fx.Node:
        return self._without_value(number_of(self.graph, name, *parts))

    def _without_value(self, node: fx.Node) -> fx.Node:
        node.meta["val"] = None  # a number, not a tensor
        return node


def predicted(run: Run, solved: SolvedSizes, sizes: Mapping[str, int]) -> Run:
    """Return what a run on symbols says of a run at given sizes of the symbols, by their final names."""
    known: dict[Any, Any] = {}

    def told(value: Any) -> Any:
        if isinstance(value, Sum):
            if value not in known:
                known[value] = value_of(solved.final(value), sizes)
            return known[value]
        if isinstance(value, Real):
            return float(NUMBERS[value.operation](*map(told, value.parts)))
        if isinstance(value, Value):
            return Value(tuple(map(told, value.shape)), value.dtype)
        if isinstance(value, list | tuple):
            return type(value)(map(told, value))
        return {name: told(part) for name, part in value.items()} if isinstance(value, dict) else value

    steps = [replace(s, args=told(s.args), kwargs=told(s.kwargs), results=told(s.results)) for s in run.steps]
    return replace(run, steps=steps, outputs=told(run.outputs))
