"""Labels and the sets that they form: joined labels belong to one set; a set with a frozen label has to stay."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from swdc.channels.factors import Grid, settle
from swdc.ir.call import Call
from swdc.ir.groups import Ids, Reason

_OTHER_FACTOR = "the dimension that it is a factor of loses channels along another factor"


class Sets:
    """Joined and frozen labels, whichever values have them."""

    def __init__(self) -> None:
        self.parts: list[Ids] = []
        """The labels of each value that is cut out of another; at least one of each has to stay."""
        self._count = 0
        self._joins: list[tuple[Ids, Ids]] = []
        self._freezes: list[tuple[Ids, Reason]] = []
        self._grids: list[Grid] = []
        self._marks: dict[str, list[Ids]] = {}
        self._ungained: list[Ids] = []
        self._reads: list[tuple[int, tuple[str, int]]] = []
        self.masked_reads: list[tuple[tuple[str, int], Ids]] = []
        """Channels that a mask takes from what reads them: a tensor and its dimension, and the labels."""

    def fresh(self, size: int) -> Ids:
        """Return ``size`` new labels."""
        labels = np.arange(self._count, self._count + size, dtype=np.int64)
        self._count += size
        return labels

    def freeze(self, labels: Ids | None, reason: Reason) -> None:
        """Forbid the removal of channels."""
        if labels is not None and len(labels):
            self._freezes.append((labels, reason))

    def ungained(self, labels: Ids | None) -> None:
        """Note that a norm without a gain, or what may be part of one, runs over these channels.

        Then no weight before their readers need make them zero.
        """
        if labels is not None:
            self._ungained.append(labels)

    def freeze_read(self, labels: Ids, reason: Reason, tensor: str, dim: int) -> None:
        """Freeze channels that a tensor reads along ``dim``, except those that a norm without a gain runs over.

        For these, the mask also sets to zero the weights that read them.
        """
        self._reads.append((len(self._freezes), (tensor, dim)))
        self._freezes.append((labels, reason))

    def join(self, one: Ids | None, other: Ids | None, call: Call) -> Ids | None:
        """Couple two dimensions index by index, and return their labels.

        If only one of them holds channels, these are frozen, and the result holds none.
        """
        if one is None or other is None:
            labelled = one if other is None else other
            self.freeze(labelled, call.reason("aligned with a dimension that holds no removable channels"))
            return None
        if len(one) != len(other):
            for labels in (one, other):
                self.freeze(labels, call.reason("aligned with a dimension whose channels repeat in another way"))
            return None
        if one is not other:
            self._joins.append((one, other))
        return one

    def factor(self, whole: Ids, call: Call) -> list[Ids]:
        """Return labels along each axis of ``whole``. Each label of ``whole`` will be joined with that of one axis.

        The axis is chosen when all uses are known.
        """
        factors = [self.fresh(size) for size in whole.shape]
        self._grids.append(Grid(whole, tuple(factors), call.reason(_OTHER_FACTOR)))
        return factors

    def product(self, factors: Sequence[Ids], call: Call) -> Ids:
        """Return labels for each index of the product of several dimensions, in the shape of these dimensions."""
        shape = tuple(len(labels) for labels in factors)
        whole = self.fresh(prod(shape)).reshape(shape)
        self._grids.append(Grid(whole, tuple(factors), call.reason(_OTHER_FACTOR)))
        return whole

    def mark(self, labels: Ids | None, kind: str) -> None:
        """Mark labels as heads of an attention, or as positions within heads (``swdc.channels.factors``)."""
        if labels is not None:
            self._marks.setdefault(kind, []).append(labels)

    def part(self, labels: Ids | None) -> None:
        """Note that these channels form a tensor cut out of another: at least one of them has to stay."""
        if labels is not None:
            self.parts.append(labels)

    # -- once all rules have been called ------------------------------------------------------------------------

    def settle(self, preferred: str) -> None:
        """Choose the factor that loses channels of each split or merged dimension, if possible a ``preferred`` one."""
        self._settle_reads()
        if not self._grids:
            return
        count, ids = self.components()
        frozen, marked = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        for labels, _ in self._freezes:
            frozen[ids[labels]] = True
        for labels in self._marks.get(preferred, ()):
            marked[ids[labels]] = True
        settled = settle(self._grids, ids, frozen, marked)
        self._joins += settled.joins
        for labels, reason in settled.freezes:
            self.freeze(labels, reason)

    def _settle_reads(self) -> None:
        """Give the channels that norms without a gain write to the masks of their readers."""
        if not self._ungained or not self._reads:
            return
        count, ids = self.components()
        ungained = np.zeros(count, dtype=bool)
        ungained[ids[np.concatenate(self._ungained)]] = True
        for number, slot in self._reads:
            labels, reason = self._freezes[number]
            masked = ungained[ids[labels]]
            self._freezes[number] = labels[~masked], reason
            self.masked_reads.append((slot, labels[masked]))

    def components(self) -> tuple[int, Ids]:
        """Return the number of sets, and the set of each label."""
        if not self._joins:
            return self._count, np.arange(self._count, dtype=np.int64)
        one = np.concatenate([a for a, _ in self._joins])
        other = np.concatenate([b for _, b in self._joins])
        links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(self._count, self._count))
        count, ids = connected_components(links, directed=False)
        return int(count), ids.astype(np.int64)

    def frozen(self, count: int, ids: Ids) -> tuple[Ids, list[Reason]]:
        """Return for each set the number of its first reason, or -1 if it is not frozen; and all reasons."""
        first = np.full(count, -1, dtype=np.int64)
        for number in reversed(range(len(self._freezes))):
            first[ids[self._freezes[number][0]]] = number
        return first, [reason for _, reason in self._freezes]
