"""The dependency analysis: which channels go together, and which must stay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from torch import fx

from swdc.analysis.residual import free_operands
from swdc.channels.dead_values import DeadValues, Floats, Masked
from swdc.channels.labels import Channels
from swdc.ir.call import resolve, values_in
from swdc.ir.default_device import cpu_by_default
from swdc.ir.graph import SHAPE
from swdc.ir.groups import STATISTIC, WRITES, ChannelGroup, Coupling, Frozen, Ids, Member, Reason
from swdc.ir.program import Program
from swdc.ops.base import OPERATORS, calls
from swdc.ops.rule_check import couple_and_fold


def coupling_of(program: Program) -> Coupling:
    """Return the groups, the frozen channels and the labels of every value of a program; computed once."""
    return program.derived("coupling", lambda: couple(program), OPERATORS.version)


@cpu_by_default()
def couple(program: Program, dead: DeadValues | None = None) -> Coupling:
    """Label every channel, join the labels that must go together, and collect the sets that are not frozen into groups.

    ``dead`` says what makes a channel dead; by default it is a plan's mask. Near linear in the number of labels. If
    something is not defined where a mask sets tensors to zero (a divisor), it is tried whether more channels can go
    with masks that leave these tensors as they are.
    """
    if dead is not None:
        return _collect(_labelled(program, dead))
    masked = _labelled(program, Masked(program.tensors))
    first = _collect(masked)
    if not masked.undefined:
        return first
    unmasked = {name for name, own in masked.slots.first_names.items() if own in _firsts(masked)}
    second = _collect(_labelled(program, Masked(program.tensors, unmasked)))
    return second if _held_count(second) < _held_count(first) else first


def _firsts(channels: Channels) -> set[str]:
    """Return the first names of the tensors with which something is not defined if they are zero."""
    return {channels.slots.first_names[name] for name in channels.undefined}


def _held_count(coupling: Coupling) -> int:
    return sum(len(frozen.indices) for frozen in coupling.frozen)


def _labelled(program: Program, dead: DeadValues) -> Channels:
    """Return the channels of a program once every operator's rule has been called."""
    channels = Channels(program, free_operands(program), dead)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            _label_input(node, channels)
        elif node.op == "output":
            for value in values_in(resolve(list(node.args))):
                channels.freeze_value(value, Reason("is the model's output"))
                channels.singles.stay(channels.singles.of(value))
        elif node.op in ("call_function", "call_module"):
            operator, call = calls(program)[node]
            if not operator.repeats:
                channels.hold_repeated(call)
            couple_and_fold(operator, call, channels)
            operator.follow_singles(call, channels)
            channels.slots.finish(call)
    channels.settle(program.facts.attention)
    return channels


def _label_input(node: fx.Node, channels: Channels) -> None:
    shape = node.meta.get(SHAPE)
    if shape is None:
        return
    labels = [channels.fresh(size) if isinstance(size, int) and size > 1 else None for size in shape]
    for ids in labels:
        channels.freeze(ids, Reason(f"is the model's input {node.name}"))
    channels.nodes[node] = labels


def _collect(channels: Channels) -> Coupling:
    """Turn joined labels into groups: sets of coupled labels with the same members, one channel each."""
    count, ids = channels.components()
    first_reason, reasons = channels.frozen(count, ids)
    table = channels.slots.labels
    slots = [
        (name, dim, labels) for name, dims in table.items() for dim, labels in enumerate(dims) if labels is not None
    ]
    distinct = {
        id(labels): ids[labels] for _, _, labels in slots
    }  # one array serves a filter, its norm and its readers
    parts = [ids[labels] for labels in channels.parts]
    group_of, channel_of, order = _partition(count, first_reason < 0, list(distinct.values()), parts)
    rows = {key: _rows(sets, group_of, channel_of) for key, sets in distinct.items()}
    held = {key: _held(sets, first_reason) for key, sets in distinct.items()}
    masked = _masked_reads(channels, ids, group_of)
    members: list[list[Member]] = [[] for _ in order]
    frozen: list[Frozen] = []
    for name, dim, labels in slots:
        roles, rest = channels.slots.roles(name, dim), channels.slots.rests.get(name, 0.0)
        if isinstance(channels.dead, Masked) and name in channels.dead.unmasked:
            roles = roles - {WRITES} | {STATISTIC}
        for group, indices in rows[id(labels)]:
            own = roles | {WRITES} if (name, dim, group) in masked else roles
            members[group].append(Member(name, dim, indices, own, rest))
        frozen += [Frozen(name, dim, indices, reasons[number]) for number, indices in held[id(labels)]]
    groups = tuple(
        ChannelGroup(name, len(channel), tuple(m))
        for name, channel, m in zip(_names(members), order, members, strict=True)
    )
    return Coupling(
        groups,
        tuple(frozen),
        nodes={node.name: _through(labels, ids) for node, labels in channels.nodes.items()},
        tensors={
            name: _through(table[first], ids) for name, first in channels.slots.first_names.items() if first in table
        },
        constants=_constants(channels, masked, ids, group_of),
        singles={name: _through(labels, ids) for name, labels in channels.singles.labels().items()},
        group_of=group_of,
        channel_of=channel_of,
    )


def _masked_reads(channels: Channels, ids: Ids, group_of: Ids) -> set[tuple[str, int, int]]:
    """Return the tensors and dimensions whose mask also covers what reads a group, with the number of the group."""
    found = ((slot, np.unique(group_of[ids[labels]]).tolist()) for slot, labels in channels.masked_reads)
    return {(*slot, group) for slot, groups in found for group in groups}


def _constants(
    channels: Channels, masked: Collection[tuple[str, int, int]], ids: Ids, group_of: Ids
) -> dict[str, Floats]:
    """Return, for each node that must fold constants, their values: one for each channel that the node reads.

    A weight that also writes these channels (a tied embedding) is masked itself, so the node has nothing to fold; nor
    has one for the groups that ``masked`` names.
    """
    constants = {}
    for node, found in channels.dead.folded.items():
        if WRITES in channels.slots.roles(found.weight, 1):
            continue
        name = channels.slots.first_names[found.weight]
        groups = [group for tensor, dim, group in masked if (tensor, dim) == (name, 1)]
        read = group_of[ids[channels.channels(found.weight, 1)]]
        constants[node] = np.where(np.isin(read, groups), 0.0, found.values)
    return constants


def _held(sets: Ids, first_reason: Ids) -> list[tuple[int, Ids]]:
    """Return the positions along a dimension that are frozen, by the number of their reason."""
    numbers = first_reason[sets]
    return [(int(number), np.flatnonzero(numbers == number)) for number in np.unique(numbers[numbers >= 0])]


def _through(labels: Any, ids: Ids) -> Any:
    """Replace labels by the numbers of their sets, in nested tuples of arrays."""
    if labels is None:
        return None
    if isinstance(labels, np.ndarray):
        return ids[labels]
    return tuple(_through(item, ids) for item in labels)


def _partition(count: int, free: Any, slots: list[Ids], parts: list[Ids]) -> tuple[Ids, Ids, list[Ids]]:
    """Divide the free sets that occur in a slot into classes that occur alike in every slot and every part.

    Returns the class of each set (-1 if it has none), its position in the class, and the sets of each class. Classes
    and positions are in the order of first occurrence. Each slot refines the classes found so far, so the cost is
    proportional to the number of labels.
    """
    klass = np.full(count, -1, dtype=np.int64)
    seen = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    position, classes = 0, 0
    for number, slot in enumerate([*slots, *parts]):
        present, first, times = np.unique(slot, return_index=True, return_counts=True)
        usable = free[present] if number < len(slots) else klass[present] >= 0
        present, first, times = present[usable], first[usable], times[usable]
        seen[present] = np.minimum(seen[present], position + first)
        position += len(slot)
        if len(present) == 0:
            continue
        keys = (klass[present] + 1) * (int(times.max()) + 1) + times
        _, fresh = np.unique(keys, return_inverse=True)
        klass[present] = classes + fresh
        classes += int(fresh.max()) + 1
    members = np.flatnonzero(klass >= 0)
    members = members[np.argsort(seen[members], kind="stable")]
    group_of = np.full(count, -1, dtype=np.int64)
    channel_of = np.full(count, -1, dtype=np.int64)
    if len(members) == 0:
        return group_of, channel_of, []
    _, first, inverse = np.unique(klass[members], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    group_of[members] = rank[inverse]
    by_group = members[np.argsort(group_of[members], kind="stable")]
    bounds = np.cumsum(np.bincount(group_of[by_group]))
    order = np.split(by_group, bounds[:-1])
    for sets in order:
        channel_of[sets] = np.arange(len(sets))
    return group_of, channel_of, order


def _rows(sets: Ids, group_of: Ids, channel_of: Ids) -> list[tuple[int, Ids]]:
    """Return for each group in a slot the positions of its channels, shape (width, multiplicity)."""
    positions = np.flatnonzero(group_of[sets] >= 0)
    if len(positions) == 0:
        return []
    groups, channels = group_of[sets[positions]], channel_of[sets[positions]]
    order = np.lexsort((channels, groups))
    positions, groups, channels = positions[order], groups[order], channels[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return [
        (int(groups[start]), positions[start:end].reshape(int(channels[end - 1]) + 1, -1))
        for start, end in zip(starts, [*starts[1:], len(groups)], strict=True)
    ]


def _names(members: list[list[Member]]) -> list[str]:
    """Name each group after the first tensor that writes its channels; number those that share it."""
    names: dict[str, None] = {}
    times: dict[str, int] = {}
    for slots in members:
        writing = [m for m in slots if WRITES in m.roles] or slots
        base = writing[0].tensor.removesuffix(".weight") + (f"[{writing[0].dim}]" if writing[0].dim else "")
        times[base] = times.get(base, 0) + 1
        names[base if times[base] == 1 else f"{base}#{times[base]}"] = None
    return list(names)
