"""The sizes that a part of a program needs and no tensor given to it has: numbers that it is given, or constants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import fx
from torch.fx.node import map_aggregate

from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import Size, evaluate
from swdc.ops.creation import asked_size, computes_sizes


class OutsideSizes:
    """Where a part of a program gets sizes from that are computed outside of it.

    ``numbers`` has the argument of the part's call that is the size, by its position: the code of a model may hand
    height and width to a module as numbers. Arguments of one value are told apart by their order. ``constants`` has the
    size in the example where there is no such argument: the part then stands for the sizes of the example.
    """

    def __init__(
        self, program: Program, batch: int, inside: Callable[[str], bool], known: Collection[fx.Node],
        arguments: Sequence[Any],
    ) -> None:  # fmt: skip
        """``known`` are the sizes that tensors given to the part have; ``arguments`` those of its call at ``batch``."""
        self.numbers: dict[fx.Node, int] = {}
        self.constants: dict[fx.Node, int] = {}
        self._facts, self._sizes, self._known = program.facts, program.facts.sizes(batch), known
        self._free = [(place, each) for place, each in enumerate(arguments) if type(each) is int]
        self._places: dict[str, int] = {}
        for node in program.graph.nodes:
            asked = computes_sizes(node) and any(inside(user.name) and not computes_sizes(user) for user in node.users)
            if asked and not self._is_found(node) and not self._depends_on_batch(node):
                self.constants[node] = self._value(node)

    def __contains__(self, node: fx.Node) -> bool:
        """Whether a size is such a number or constant."""
        return node in self.numbers or node in self.constants

    def fixed(self, size: Size) -> int | None:
        """Return the size that a dimension of a given tensor has to have, ``None`` if any."""
        if isinstance(size, int):
            return size
        return evaluate((size,), self._sizes)[0] if self.constants and not self._has_batch(size) else None

    def _is_found(self, node: fx.Node) -> bool:
        """Note where a size comes from, and return whether it comes from tensors and numbers that are given."""
        if node in self._known or node in self.numbers:
            return True
        reads = [] if asked_size(node) is not None else node.all_input_nodes
        if reads and all(self._is_found(each) for each in reads):
            return True
        place = self._place(node)
        if place is not None:
            self.numbers[node] = place
        return place is not None

    def _place(self, node: fx.Node) -> int | None:
        """Return the position of the argument that is a size, the first that no other size has if there are several."""
        key, value = str(self._expression(node)), self._value(node)
        if key not in self._places:
            places = [place for place, each in self._free if each == value]
            left = [place for place in places if place not in self._places.values()]
            if not places:
                return None
            self._places[key] = (left or places)[0]
        return self._places[key]

    def _expression(self, node: fx.Node) -> Size | str:
        asked = asked_size(node)
        if asked is None:
            return node.name
        size: Size = asked[0].meta[SHAPE][asked[1]]
        return size

    def _value(self, node: fx.Node) -> int:
        """Return a size at the sizes of the example."""
        asked = asked_size(node)
        if asked is not None:
            return evaluate((asked[0].meta[SHAPE][asked[1]],), self._sizes)[0]
        args = map_aggregate(node.args, lambda each: self._value(each) if isinstance(each, fx.Node) else each)
        return int(node.target(*args))  # type: ignore[operator]

    def _depends_on_batch(self, node: fx.Node) -> bool:
        asked = asked_size(node)
        if asked is not None:
            size = asked[0].meta[SHAPE][asked[1]]
            return self._has_batch(size)
        return any(self._depends_on_batch(each) for each in node.all_input_nodes)

    def _has_batch(self, size: Size) -> bool:
        return not isinstance(size, int) and self._facts.batch in {str(symbol) for symbol in size.free_symbols}
