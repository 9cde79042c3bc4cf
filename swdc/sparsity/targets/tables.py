"""The channels that may be removed, and where they lie in tensors, as tables with named columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from swdc.ir.groups import Bools, Ids, Member
from swdc.sparsity.planning.dimensions import Floats
from swdc.sparsity.targets.structures import Part

Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Channels:
    """One row for each channel of the groups that may lose channels.

    The rows of one group stand together; they are a segment. All columns have shape ``(channels,)``: ``group`` is the
    number of the group in the program, ``segment`` the number of the segment, and ``by_gain`` says whether the gains
    of batch norms decide over the channel.
    """

    group: Ids
    segment: Ids
    by_gain: Bools

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Channels:
        """Return the table of groups that may lose channels."""
        widths = [part.width for part in parts]
        return cls(
            group=np.repeat([part.number for part in parts], widths),
            segment=np.repeat(np.arange(len(parts)), widths),
            by_gain=np.repeat([part.by_gain for part in parts], widths),
        )

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def starts(self) -> Ids:
        """The first row of each segment, shape ``(segments,)``."""
        return np.flatnonzero(np.diff(self.segment, prepend=-1))

    @cached_property
    def widths(self) -> Ids:
        """The number of rows of each segment, shape ``(segments,)``."""
        return np.bincount(self.segment)

    def places(self, members: Iterable[Sequence[Member]], by_rank: bool = False) -> Places:
        """Return where the channels lie in tensors, from the members of each segment.

        Segment after segment is taken; with ``by_rank`` the first member of every segment, then the second of every
        segment, and so on.
        """
        owned = [[(int(start), member) for member in own] for start, own in zip(self.starts, members, strict=True)]
        order = zip_longest(*owned) if by_rank else owned
        return _collected(filter(None, chain.from_iterable(order)))


class Place(NamedTuple):
    """One row for each position along a dimension of a tensor that belongs to a channel.

    ``position`` counts along the dimension ``dim``, and ``channel`` is the row of the channel in ``Channels``. Both
    have shape ``(positions,)``.
    """

    dim: int
    position: Ids
    channel: Ids


Places = dict[str, list[Place]]
"""By the name of a tensor: one place for each dimension along which channels lie."""


@dataclass(frozen=True)
class Readings:
    """One row for each number that is read to score a channel; a channel may have several.

    The numbers stand in a line of ``length`` numbers: for each place one number for each index of its dimension.
    ``position`` counts along the line, and ``channel`` is the row of the channel in ``Channels``. Both have shape
    ``(readings,)``.
    """

    position: Ids
    channel: Ids
    length: int

    @classmethod
    def of(cls, places: Places, tensors: Mapping[str, torch.Tensor]) -> Readings:
        """Return the table for the places in some tensors, one after the other."""
        positions, channels, length = [], [], 0
        for name, own in places.items():
            for place in own:
                positions.append(length + place.position)
                channels.append(place.channel)
                length += tensors[name].shape[place.dim]
        return cls(np.concatenate(positions), np.concatenate(channels), length)

    @cached_property
    def counts(self) -> Ids:
        """The number of readings of each channel, shape ``(channels,)``."""
        return np.bincount(self.channel)

    def sums(self, numbers: Floats) -> Floats:
        """Return the sum over the readings of each channel, from one number for each reading."""
        return np.bincount(self.channel, weights=numbers).astype(np.float64, copy=False)

    def are_columns(self, channels: int) -> bool:
        """Whether the line is a matrix, row after row, whose columns are a number of channels in their order."""
        line = np.arange(self.length)
        every = self.length % channels == 0 and np.array_equal(self.position, line)
        return every and np.array_equal(self.channel, line % channels)


def _collected(members: Iterable[tuple[int, Member]]) -> Places:
    """Return the places of members, each given with the row of its first channel."""
    found: dict[str, dict[int, list[Place]]] = {}
    for start, member in members:
        channel = np.repeat(np.arange(start, start + len(member.indices)), member.multiplicity)
        place = Place(member.dim, member.indices.ravel(), channel)
        found.setdefault(member.tensor, {}).setdefault(member.dim, []).append(place)
    return {name: [_joined(places) for places in dims.values()] for name, dims in found.items()}


def _joined(places: list[Place]) -> Place:
    """Return places along one dimension as one."""
    position, channel = (np.concatenate(column) for column in list(zip(*places, strict=True))[1:])
    return Place(places[0].dim, position, channel)
