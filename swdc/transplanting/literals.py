"""Which numbers of the graph changed, and into what, for each module of the user's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import fx

from swdc.ir.graph import SCOPE, SHAPE
from swdc.ir.program import Program

Pairs = Mapping[int, tuple[int, ...]]
"""For each old number what it became, the most trusted first; itself among them where it also stayed."""


def changed_numbers(dense: Program, slim: Program) -> dict[str, Pairs]:
    """Return what became of the literals and the sizes seen in each scope: first literals, then sizes."""
    literals: dict[str, list[tuple[int, int]]] = defaultdict(list)
    sizes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    after = {node.name: node for node in slim.graph.nodes}
    for node in dense.graph.nodes:
        other = after.get(node.name)
        if other is None or node.op in ("placeholder", "output"):
            continue
        scope = str(node.meta.get(SCOPE) or "")
        literals[scope] += _numbers((node.args, node.kwargs), (other.args, other.kwargs))
        for one, two in ((node, other), *zip(node.all_input_nodes, other.all_input_nodes, strict=False)):
            sizes[scope] += _numbers(_shape(one, dense), _shape(two, slim))
    return {scope: _ranked(literals[scope], sizes[scope]) for scope in {*literals, *sizes}}


def _shape(node: fx.Node, program: Program) -> Any:
    if node.op == "get_attr":
        return tuple(program.tensors[str(node.target)].shape)
    return node.meta.get(SHAPE)


def _numbers(one: Any, other: Any) -> Iterator[tuple[int, int]]:
    """Yield the pairs of numbers at the same places of two nested structures."""
    if isinstance(one, bool) or isinstance(other, bool):
        return
    if isinstance(one, int) and isinstance(other, int):
        yield one, other
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for a, b in zip(one, other, strict=True):
            yield from _numbers(a, b)
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() & other.keys():
            yield from _numbers(one[key], other[key])


def _ranked(*sources: list[tuple[int, int]]) -> Pairs:
    """Return the new numbers for each old one that changed anywhere, in the order of the sources."""
    found: dict[int, dict[int, None]] = defaultdict(dict)
    for pairs in sources:
        for old, new in pairs:
            found[old].setdefault(new)
    return {old: tuple(news) for old, news in found.items() if set(news) != {old}}
