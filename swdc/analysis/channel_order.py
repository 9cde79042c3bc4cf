"""Orders the kept channels so that the channels that a shortcut brings to a sum are contiguous.

If the two sides of a residual sum keep different channels, the shared ones have to be picked out of the shortcut. The
order of channels is free if all readers and writers agree on it. It is chosen here so that the shared channels are
contiguous on both sides of as many sums as possible; then a slice and a pad replace a gather.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from swdc.analysis.residual import free_operands
from swdc.ir.call import Ref
from swdc.ir.groups import Bools, Coupling, Ids, labelled
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.addition import CHANNELS


def arranged(program: Program, coupling: Coupling, stays: Bools) -> Ids | None:
    """Return the rank of each set of coupled channels among those of its group; ``None`` if the order can stay."""
    links = _links(program, coupling)
    if not links:
        return None
    rank = np.zeros(len(coupling.group_of), dtype=np.int64)
    kept = {group: _kept(coupling, stays, group) for group in {g for link in links for g in link}}
    for group, order in in_rows(links, kept).items():
        position = np.full(coupling.groups[group].width, -1)
        position[order] = np.arange(len(order))
        ids = np.flatnonzero(coupling.group_of == group)
        rank[ids] = position[coupling.channel_of[ids]]
    return rank


def _kept(coupling: Coupling, stays: Bools, group: int) -> frozenset[int]:
    ids = np.flatnonzero((coupling.group_of == group) & stays)
    return frozenset(coupling.channel_of[ids].tolist())


def _links(program: Program, coupling: Coupling) -> list[tuple[int, int]]:
    """Return, for each sum and its free operand, the groups of the operand and of the sum, if both may be reordered."""
    sums = list(free_operands(program).items())
    fixed = _fixed(program, coupling) if sums else set()
    found = []
    for node, operands in reversed(sums):
        for operand in operands:
            source, target = (_whole(coupling, coupling.nodes[n.name][CHANNELS]) for n in (operand, node))
            if source is not None and target is not None and source != target and not {source, target} & fixed:
                found.append((source, target))
    return found


def _whole(coupling: Coupling, ids: Ids | None) -> int | None:
    """Return the group whose channels, all of them and in order, stand along a dimension."""
    if ids is None or len(ids) == 0 or coupling.group_of[ids[0]] < 0:
        return None
    group = int(coupling.group_of[ids[0]])
    same = (coupling.group_of[ids] == group).all() and len(ids) == coupling.groups[group].width
    return group if same and (coupling.channel_of[ids] == np.arange(len(ids))).all() else None


def _fixed(program: Program, coupling: Coupling) -> set[int]:
    """Return the groups whose order matters: to an operator, or because other channels share a dimension with them."""
    fixed: set[int] = set()
    for ids in coupling.arrays():
        if _whole(coupling, ids) is None:
            fixed.update(np.unique(coupling.group_of[ids]).tolist())
    for operator, call in calls(program).values():
        if not operator.orderless(call):
            tables = [coupling.tensors if isinstance(v, Ref) else coupling.nodes for v in call.tensors()]
            values = [table.get(str(v)) for table, v in zip(tables, call.tensors(), strict=True)]
            for ids in labelled([*values, coupling.nodes.get(call.node.name)]):
                fixed.update(np.unique(coupling.group_of[ids]).tolist())
    return fixed


def in_rows(links: Iterable[tuple[int, int]], kept: Mapping[int, frozenset[int]]) -> dict[int, list[int]]:
    """Return an order of the channels of each group in which as many links as possible share contiguous channels.

    A link leads from the group of a shortcut to that of a sum. Orders are lists of blocks; the channels within a block
    are in no order yet. The channels that a link shares must be contiguous whole blocks, except that the first and the
    last block may be divided. Groups share blocks, so that a division holds in all of them. If a link does not fit, the
    group of the sum starts with a new order, and its shortcut is gathered.
    """
    blocks: list[list[int]] = []
    orders: dict[int, list[int]] = {}

    def new(channels: Iterable[int]) -> list[int]:
        members = sorted(channels)
        if not members:
            return []
        blocks.append(members)
        return [len(blocks) - 1]

    def divide(block: int, first: Iterable[int]) -> None:
        """Split a block in two, in every order; the channels in ``first`` come first."""
        rest = new(set(blocks[block]).difference(first))
        blocks[block] = sorted(set(blocks[block]).intersection(first))
        for order in orders.values():
            if block in order:
                order[order.index(block) + 1 : order.index(block) + 1] = rest

    for source, target in links:
        if source not in orders:
            orders[source] = new(kept[source])
        if target in orders:
            continue
        shared = kept[source] & kept[target]
        touched = [n for n, block in enumerate(orders[source]) if shared.intersection(blocks[block])]
        between = orders[source][touched[0] + 1 : touched[-1]] if touched else []
        if not touched or any(not shared.issuperset(blocks[block]) for block in between):
            orders[target] = new(kept[target])
            continue
        first, last = orders[source][touched[0]], orders[source][touched[-1]]
        if first != last:
            divide(last, shared)
        divide(first, set(blocks[first]) - shared)
        orders[target] = [b for b in orders[source] if shared.issuperset(blocks[b])] + new(kept[target] - shared)
    return {group: [channel for block in order for channel in blocks[block]] for group, order in orders.items()}
