"""Symbols for the sizes of a model's inputs, and the names that users know them by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from swdc.capture.batch import shared_batch
from swdc.capture.size_sums import Sum, number, symbol

BATCH = "batch"


@dataclass(frozen=True)
class InputSymbols:
    """Inputs whose sizes are symbols: ``shapes`` gives the shape of each, ``None`` for what is no tensor.

    ``example`` gives the sizes of the symbols in the example, and ``places`` the input and dimension that each is of.
    """

    shapes: list[tuple[Sum, ...] | None]
    example: dict[str, int]
    places: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, leaves: Sequence[Any], fixed: Collection[str]) -> InputSymbols:
        """Return symbols for all sizes but those in ``fixed``, and those that are one: they may broadcast.

        If all inputs share their leading size, that is one symbol: the batch.
        """
        batched = shared_batch(leaves) is not None
        made = cls([], {}, {})
        for place, leaf in enumerate(leaves):
            if not isinstance(leaf, torch.Tensor):
                made.shapes.append(None)
                continue
            sizes = []
            for dim, size in enumerate(leaf.shape):
                name = BATCH if batched and dim == 0 else f"size_{place}_{dim}"
                free = name not in fixed and (size > 1 or name == BATCH) and size > 0
                sizes.append(symbol(name) if free else number(size))
                if free and name not in made.example:
                    made.example[name], made.places[name] = size, (place, dim)
            made.shapes.append(tuple(sizes))
        return made

    def named(self, leaves: Sequence[Any], is_free: Callable[[str], bool]) -> dict[str, str]:
        """Return a name for each symbol: those that are free get the names of their axes, each a different one."""
        taken: dict[str, None] = {}
        names = {}
        batched = BATCH in self.example or shared_batch(leaves) is not None
        for name, (place, dim) in self.places.items():
            if not is_free(name):
                names[name] = name
                continue
            free = [d for d, s in enumerate(self.shapes[place] or ()) if any(map(is_free, s.symbols))]
            base = BATCH if name == BATCH else _axis(leaves[place], dim, free, batched)
            number_of = next(
                n for n in range(1, len(self.example) + 2) if (base if n == 1 else f"{base}_{n}") not in taken
            )
            names[name] = base if number_of == 1 else f"{base}_{number_of}"
            taken[names[name]] = None
        return names


def _axis(leaf: torch.Tensor, dim: int, free: list[int], batched: bool) -> str:
    """Return what a dimension is called, by the kind of its tensor, and by which of its dimensions are free."""
    rank = leaf.dim()
    inner = [d for d in free if d > 0 or not batched]
    if not batched:
        edges = rank == 2 and leaf.shape[0] == 2 and not leaf.is_floating_point()
        return "edges" if edges and dim == 1 else "nodes" if dim == 0 else "length"
    if rank == 3 and len(inner) == 1 and 3 in leaf.shape[1:]:
        return "points"
    if rank >= 4 and len(inner) > rank - 2:
        return "channels" if dim == inner[0] else _spatial(inner[1:], dim)
    return _spatial(inner, dim)


def _spatial(inner: list[int], dim: int) -> str:
    names = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}.get(len(inner), ())
    return names[inner.index(dim)] if names and dim in inner else "length"


def sizes_of(shapes: Sequence[Any], value: Callable[[Sum], int]) -> list[tuple[int, ...] | None]:
    """Return plain shapes of the inputs."""
    return [None if shape is None else tuple(map(value, shape)) for shape in shapes]
