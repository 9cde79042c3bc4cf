"""The indices along each dimension that are kept when a plan is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from swdc.ir.call import Ref, Value
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Bools, Coupling, Ids
from swdc.ir.sizes import simplify


class Kept:
    """A plan, as indices that are kept along the dimensions of a program's values."""

    def __init__(self, coupling: Coupling, stays: Bools, rank: Ids | None = None) -> None:
        """``stays`` says for each set of coupled channels whether it is kept; ``rank`` orders the kept ones.

        Without ``rank``, and if two ranks are equal, channels keep their original order.
        """
        self._coupling = coupling
        self._stays = stays
        self._rank = rank

    def mask(self, value: Value, dim: int) -> Bools | None:
        """Return which indices along a dimension are kept; ``None`` if the dimension holds no channels."""
        ids = self._ids(value, dim)
        return None if ids is None else self._stays[ids]

    def _ids(self, value: Value, dim: int) -> Ids | None:
        table = self._coupling.tensors if isinstance(value, Ref) else self._coupling.nodes
        labels = table.get(value if isinstance(value, Ref) else value.name)
        return labels[dim] if labels is not None else None

    def indices(self, value: Value, dim: int) -> Ids | None:
        """Return the kept indices along a dimension, in their new order; ``None`` if it holds no channels."""
        ids = self._ids(value, dim)
        if ids is None:
            return None
        stay = np.flatnonzero(self._stays[ids])
        return stay if self._rank is None else stay[np.argsort(self._rank[ids[stay]], kind="stable")]

    def vanishes(self, value: Value, result: int = 0) -> bool:
        """Whether a value, or one of its results, was taken from a channel that is removed."""
        several = self._coupling.singles.get(str(value), ()) if isinstance(value, fx.Node) else ()
        return result < len(several) and not bool(self._stays[several[result]].all())

    def masks(self, value: Value) -> list[Bools | None]:
        """Return which indices are kept along each dimension of a value that an operator's rule has labelled."""
        table = self._coupling.tensors if isinstance(value, Ref) else self._coupling.nodes
        labels = table.get(value if isinstance(value, Ref) else value.name, ())
        return [None if ids is None else self._stays[ids] for ids in labels]

    def count(self, value: Value, dim: int) -> int | None:
        """Return how many indices along a dimension are kept; ``None`` if it holds no channels."""
        mask = self.mask(value, dim)
        return None if mask is None else int(mask.sum())

    def sizes(self, value: fx.Node, sizes: Sequence[Any], first: int = 0) -> list[Any]:
        """Return new values for ``sizes``: the arguments that give the sizes of ``value`` from dimension ``first`` on.

        A symbolic size that counts repeated channels becomes -1, to be inferred; at most one size is -1.
        """
        masks = [self.mask(value, first + dim) for dim in range(len(sizes))]
        left = [
            size if mask is None or mask.all() or size == -1 else int(mask.sum()) if isinstance(size, int) else -1
            for size, mask in zip(sizes, masks, strict=True)
        ]
        if left.count(-1) > 1:
            whole = self.resized(value, value.meta[SHAPE])[first:]
            left = [whole[d] if s == -1 and isinstance(whole[d], int) else s for d, s in enumerate(left)]
        return left

    def resized(self, value: Value, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a shape of ``value`` with the size of every channel dimension reduced to its kept channels."""
        return tuple(_scaled(size, self.mask(value, dim)) for dim, size in enumerate(shape))

    def outputs(self, value: Value, shapes: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        """Return the shapes of an operator with several results, resized, without those that vanish."""
        labels: Any = self._coupling.nodes.get(str(value), (None,) * len(shapes))
        return tuple(
            shape
            if ids is None
            else tuple(_scaled(s, None if i is None else self._stays[i]) for s, i in zip(shape, ids, strict=True))
            for number, (shape, ids) in enumerate(zip(shapes, labels, strict=True))
            if not self.vanishes(value, number)
        )


def _scaled(size: Any, mask: Bools | None) -> Any:
    """Return a size after removal by ``mask``; a symbolic size is a multiple of the mask's length."""
    if mask is None or mask.all():
        return size
    count = int(mask.sum())
    return count if isinstance(size, int) else simplify(size * count / len(mask))
