"""Which indices of which dimensions stay when a plan is carried out."""

from __future__ import annotations

from typing import Any

from swdc.call import Ref, Value
from swdc.groups import Bools, Coupling


class Kept:
    """A plan as seen from the values of a program."""

    def __init__(self, coupling: Coupling, stays: Bools) -> None:
        """``stays`` says for each set of coupled channels whether it stays."""
        self._coupling = coupling
        self._stays = stays

    def mask(self, value: Value, dim: int) -> Bools | None:
        """Return which indices along a dimension stay; ``None`` where the dimension holds no channels."""
        table = self._coupling.tensors if isinstance(value, Ref) else self._coupling.nodes
        labels = table.get(value if isinstance(value, Ref) else value.name)
        ids = labels[dim] if labels is not None else None
        return None if ids is None else self._stays[ids]

    def count(self, value: Value, dim: int) -> int | None:
        """Return how many indices along a dimension stay; ``None`` where it holds no channels."""
        mask = self.mask(value, dim)
        return None if mask is None else int(mask.sum())

    def resized(self, value: Value, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a shape of ``value`` with every channel dimension set to what is left of it."""
        counts = [self.count(value, dim) for dim in range(len(shape))]
        return tuple(size if count is None else count for size, count in zip(shape, counts, strict=True))

    def outputs(self, value: Value, shapes: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        """Return the shapes of an operator with several results, resized."""
        labels: Any = self._coupling.nodes.get(str(value), (None,) * len(shapes))
        return tuple(
            shape
            if ids is None
            else tuple(s if i is None else int(self._stays[i].sum()) for s, i in zip(shape, ids, strict=True))
            for shape, ids in zip(shapes, labels, strict=True)
        )
