"""The result of the dependency analysis: groups of coupled channels, and frozen channels with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from swdc.ir.by_content import ByContent

Ids = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Labelled = tuple[Ids | None, ...]

WRITES = "writes"
READS = "reads"
STATISTIC = "statistic"


@dataclass(frozen=True, eq=False)
class Member(ByContent):
    """One dimension of one tensor in a group.

    ``indices`` has shape ``(width, multiplicity)``: row ``k`` holds the positions along ``dim`` that belong to channel
    ``k`` (more than one if a feature map was flattened). ``roles`` says what the tensor does with the channel:
    ``writes`` (a filter, a bias, a gain), ``reads`` (the input side of a weight) or ``statistic`` (a running variance
    or a divisor, which is cut but which a mask leaves as it is). A tensor that writes a channel writes zeros where it
    is ``rest``: 0, or -1 for a gain that is read as ``1 + gain``.
    """

    tensor: str
    dim: int
    indices: Ids
    roles: frozenset[str]
    rest: float = 0.0

    @property
    def multiplicity(self) -> int:
        """The number of positions along the dimension for each channel."""
        return int(self.indices.shape[1])


@dataclass(frozen=True, eq=False)
class ChannelGroup(ByContent):
    """Coupled channels: channel ``k`` is kept or removed in all members at once."""

    name: str
    width: int
    members: tuple[Member, ...]

    def with_role(self, role: str) -> tuple[Member, ...]:
        """Return the members that have ``role``."""
        return tuple(m for m in self.members if role in m.roles)


@dataclass(frozen=True)
class Reason:
    """Why channels may not be removed: the reason as text, the operator and node, and the user's source line.

    ``edit`` says which change of the model would free the channels; it is empty if no such change is known.
    """

    text: str
    operator: str = ""
    node: str = ""
    source: str = ""
    edit: str = ""

    def __str__(self) -> str:
        where = f" at {self.source}" if self.source else ""
        return f"{self.operator}: {self.text}{where}" if self.operator else self.text


@dataclass(frozen=True, eq=False)
class Frozen(ByContent):
    """Channels of one dimension of one tensor that may not be removed."""

    tensor: str
    dim: int
    indices: Ids
    reason: Reason


@dataclass(frozen=True, eq=False)
class Coupling(ByContent):
    """The result of the dependency analysis of one program.

    Coupled channels share one id. ``nodes`` and ``tensors`` give, for each value, the ids along each dimension, or
    ``None`` for a dimension that holds no channels (batch, positions). A removed channel may leave a constant that is
    not zero: ``constants`` gives, for each node that contracts over such channels, the constant of each channel that
    the node reads. ``singles`` gives, for each result of a node, the ids with which it vanishes (those of channels that
    it was taken from by number). ``group_of`` and ``channel_of`` give, for each id, the number of its group and its
    channel in the group.
    """

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[Frozen, ...]
    nodes: Mapping[str, Labelled] = field(repr=False)
    tensors: Mapping[str, Labelled] = field(repr=False)
    constants: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    singles: Mapping[str, tuple[Ids, ...]] = field(repr=False)
    group_of: Ids = field(repr=False)
    channel_of: Ids = field(repr=False)

    def keep(self, kept: Mapping[str, Iterable[int]]) -> Bools:
        """Return, for every id, whether it stays when each named group keeps the given channels."""
        stays = np.ones(len(self.group_of), dtype=bool)
        for number, group in enumerate(self.groups):
            if group.name not in kept:
                continue
            channels = np.zeros(group.width, dtype=bool)
            channels[np.fromiter(kept[group.name], dtype=np.int64)] = True
            ids = np.flatnonzero(self.group_of == number)
            stays[ids] = channels[self.channel_of[ids]]
        return stays

    def arrays(self) -> Iterator[Ids]:
        """Return the ids along each dimension of every value and tensor that holds channels."""
        yield from labelled([*self.nodes.values(), *self.tensors.values()])

    def group(self, name: str) -> ChannelGroup:
        """Return the group called ``name`` (``KeyError`` if there is none)."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def names(self) -> tuple[str, ...]:
        """Return the names of all groups."""
        return tuple(g.name for g in self.groups)

    def to_networkx(self) -> nx.Graph:
        """Return a bipartite graph: groups on one side, dimensions of tensors ``name[dim]`` on the other."""
        graph = nx.Graph()
        for group in self.groups:
            graph.add_node(group.name, kind="group", width=group.width)
            for member in group.members:
                slot = f"{member.tensor}[{member.dim}]"
                graph.add_node(slot, kind="dimension", tensor=member.tensor, dim=member.dim)
                graph.add_edge(group.name, slot, roles=sorted(member.roles), indices=member.indices.tolist())
        for frozen in self.frozen:
            slot = f"{frozen.tensor}[{frozen.dim}]"
            graph.add_node(slot, kind="dimension", tensor=frozen.tensor, dim=frozen.dim)
            graph.nodes[slot].update(frozen=frozen.indices.tolist(), reason=str(frozen.reason))
        return graph


def labelled(labels: Any) -> Iterator[Ids]:
    """Return the arrays in nested labels."""
    if isinstance(labels, np.ndarray):
        yield labels
    elif labels is not None:
        for item in labels:
            yield from labelled(item)
