"""Values that share memory with one that the model overwrites: each gets the value that it has after the write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import fx

from swdc.ir.call import bind_arguments
from swdc.ops.in_place import Memory, is_view, overwrites
from swdc.ops.items import is_item, item_of
from swdc.ops.written_views import can_be_written, may_copy, source_of_view, written_whole

Noted = Callable[[fx.Node, fx.Node], fx.Node]
"""Gives a new node the shape and type of a captured one, and returns it."""


class ViewWrites:
    """Writes over views without side effects.

    What is written over a view is put into the value that it looks at, and so on up to the value that owns the memory.
    The other views of it that are read later are taken anew.
    """

    def __init__(self, memory: Memory, mapped: Callable[[Any], Any], noted: Noted) -> None:
        """``mapped`` returns an argument with its captured nodes replaced by those of the program."""
        self._memory, self._mapped, self._noted = memory, mapped, noted

    def can_follow(self, written: fx.Node, stale: Collection[fx.Node]) -> bool:
        """Whether a write over a captured value can be followed, if the values ``stale`` are read after it."""
        links = [*self._links(written), *(link for other in stale for link in self._links(other))]
        known = all(self._is_known(link) for link in links)
        return known and all(can_be_written(view) for view in self._links(written))

    def after(self, written: fx.Node, part: fx.Node, stale: Collection[fx.Node]) -> Mapping[fx.Node, fx.Node]:
        """Return the new values by their nodes: of what owns the memory, of the views on the way, and of ``stale``.

        ``part`` is the new value of ``written``.
        """
        view = self._root(written)
        new = {view: part}
        while self._memory.owner(view) is not view:
            source, maker = source_of_view(view)
            source = self._root(source)
            arguments = bind_arguments(maker.target, self._mapped(maker.args), self._mapped(maker.kwargs))
            whole = self._mapped(source)
            made = written_whole(view, arguments, whole, new[view])
            new[source] = self._noted(made, source)
            view = source
        for other in stale:
            self._anew(other, new)
        return new

    def _anew(self, node: fx.Node, new: dict[fx.Node, fx.Node]) -> fx.Node:
        """Return the value of a captured node, taken anew from the new values if it is a view of them."""
        root = self._root(node)
        if root not in new:
            source, maker = source_of_view(root)
            taken = self._taken(maker, self._root(source), self._anew(source, new))
            new[root] = self._noted(item_of(taken, root.args[1]), root) if is_item(root) else taken  # type: ignore[arg-type]
        new[node] = new[root]
        return new[root]

    def _taken(self, maker: fx.Node, source: fx.Node, value: fx.Node) -> fx.Node:
        args = fx.map_arg(maker.args, lambda n: value if self._root(n) is source else self._mapped(n))
        kwargs = fx.map_arg(maker.kwargs, self._mapped)
        made: fx.Node = value.graph.call_function(maker.target, args, kwargs)  # type: ignore[arg-type]
        return self._noted(made, maker)

    def _root(self, node: fx.Node) -> fx.Node:
        """Return the value that a chain of overwriting calls returns."""
        while overwrites(node):
            node = node.all_input_nodes[0]
        return node

    def _links(self, node: fx.Node) -> list[fx.Node]:
        """Return the views from a captured value up to what owns the memory."""
        found = []
        node = self._root(node)
        while self._memory.owner(node) is not node:
            found.append(node)
            node = self._root(source_of_view(node)[0])
        return found

    def _is_known(self, view: fx.Node) -> bool:
        """Whether a node is a view wherever it is taken, and reads nothing but what it looks at."""
        _, maker = source_of_view(view)
        return is_view(maker) and not may_copy(maker)
