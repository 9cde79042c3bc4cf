"""Single channels: values that were taken from one channel by its number, so that no dimension holds it any more.

Such a value, and what is computed from it, vanishes with its channel: the slim program does not compute it. It belongs
to several channels if it is computed from several such values; then it vanishes with any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import fx

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.sets import Sets
from swdc.ir.call import Call, Value
from swdc.ir.groups import Ids, Reason

_MOST = 64
"""A value of more single channels than these (a sum over a loop) keeps them all."""


@dataclass(frozen=True)
class Single:
    """A channel that a value belongs to: the number that the value holds if it is dead, and why it stays if it must."""

    dead: float
    reason: Reason


Singles = Mapping[int, Single]
"""The single channels of a value, by their labels."""


class SingleChannels:
    """The single channels of all values of a program."""

    def __init__(self, sets: Sets) -> None:
        self._sets = sets
        self._of: dict[fx.Node, tuple[Singles, ...]] = {}

    def of(self, value: Value, result: int = 0) -> Singles:
        """Return the single channels of a value, or of one of its results."""
        found = self._of.get(value, ()) if isinstance(value, fx.Node) else ()
        return found[result] if result < len(found) else {}

    def of_inputs(self, call: Call) -> dict[int, Single]:
        """Return the single channels of all inputs of a call; their dead values are those of one input each."""
        return {label: single for value in call.tensors() for label, single in self.of(value).items()}

    def set(self, call: Call, *results: Singles) -> None:
        """Set the single channels of each result of a call; if they are very many, they have to stay instead."""
        for singles in results:
            if len(singles) > _MOST:
                self.stay(singles)
        kept = tuple({} if len(singles) > _MOST else singles for singles in results)
        if any(kept):
            self._of[call.node] = kept

    def stay(self, singles: Singles) -> None:
        """Forbid the removal of single channels."""
        for label, single in singles.items():
            self._sets.freeze(np.array([label]), single.reason)

    def own(self, values: Sequence[Value]) -> list[Singles]:
        """Return for each of several combined values the single channels that are not those of all."""
        common = self.common(values)
        return [{n: single for n, single in self.of(value).items() if n not in common} for value in values]

    def joined(self, singles: Singles, call: Call) -> int:
        """Couple the single channels of a value, and return one of them."""
        first, *others = singles
        for label in others:
            self._sets.join(np.array([first]), np.array([label]), call)
        return first

    def common(self, values: Sequence[Value]) -> Singles:
        """Return the single channels of all of several values; a dead value is known if all agree."""
        first, *others = [self.of(value) for value in values]
        return {
            label: Single(single.dead if all(o[label].dead == single.dead for o in others) else UNKNOWN, single.reason)
            for label, single in first.items()
            if all(label in other for other in others)
        }

    def labels(self) -> dict[str, tuple[Ids, ...]]:
        """Return the labels of the single channels of each result, by the names of the nodes that have any."""
        return {
            node.name: tuple(np.array([*singles], dtype=np.int64) for singles in several)
            for node, several in self._of.items()
        }


def dead_of(singles: Singles) -> float:
    """Return what a value of coupled single channels holds if they are dead; unknown if none of them tells."""
    return next((single.dead for single in singles.values() if single.dead == single.dead), UNKNOWN)
