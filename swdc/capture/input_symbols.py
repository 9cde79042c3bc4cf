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
    def of(cls, leaves: Sequence[Any], fixed: Collection[str], sharing: bool = True) -> InputSymbols:
        """Return symbols for all sizes but those in ``fixed``, and those that are one: they may broadcast.

        If all inputs share their leading size, that is one symbol: the batch. Without ``sharing``, it is by chance that
        leading sizes are equal.
        """
        batched = sharing and shared_batch(leaves) is not None
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

    @property
    def leading(self) -> str | None:
        """The symbol that is the leading size of the first tensor with dimensions; ``None`` if that is a number."""
        first = next((shape[0] for shape in self.shapes if shape), None)
        return next(iter(first.symbols), None) if first is not None else None

    def named(self, leaves: Sequence[Any], told: Callable[[str], Sum]) -> dict[str, str]:
        """Return a name for each symbol: those that are free get the names of their axes, each a different one.

        ``told`` says what a symbol has turned out to be, which is itself if it is free.
        """
        taken: dict[str, None] = {}
        names = {}
        is_free = {name: told(name) == symbol(name) for name in self.places}
        shapes = [[told(*x.symbols) if x.symbols else x for x in s or ()] for s in self.shapes]
        batch = BATCH if BATCH in self.example else _in_all(shapes)
        batched = batch is not None or shared_batch(leaves) is not None
        for name, (place, dim) in self.places.items():
            if not is_free[name]:
                names[name] = name
                continue
            others = [d for d, s in enumerate(self.shapes[place] or ()) if s.symbols and s != symbol(batch or "")]
            inner = [d for d in others if shapes[place][d] == (self.shapes[place] or ())[d]]
            own = [
                x for x, s in zip(leaves[place].shape[1:], shapes[place][1:], strict=True) if s != symbol(batch or "")
            ]
            base = BATCH if name == batch else _axis(leaves[place], dim, inner, own if batched else None)
            number_of = next(
                n for n in range(1, len(self.example) + 2) if (base if n == 1 else f"{base}_{n}") not in taken
            )
            names[name] = base if number_of == 1 else f"{base}_{number_of}"
            taken[names[name]] = None
        return names


def _in_all(shapes: Sequence[Any]) -> str | None:
    """Return the symbol that is one size of each of several inputs, such as the batch of states beside a sequence."""
    given = [shape for shape in shapes if shape]
    for size in given[0] if len(given) > 1 else ():
        if size.symbols and all(shape.count(size) == 1 for shape in given):
            return next((name for name in size.symbols if size == symbol(name)), None)
    return None


def _axis(leaf: torch.Tensor, dim: int, inner: list[int], own: list[int] | None) -> str:
    """Return what a dimension is called, by the kind of its tensor, and by which of its ``inner`` dimensions are free.

    ``own`` are the sizes behind the first that are not the batch; ``None`` if there is no batch.
    """
    rank = leaf.dim()
    if own is None:
        edges = rank == 2 and leaf.shape[0] == 2 and not leaf.is_floating_point()
        return "edges" if edges and dim == 1 else "nodes" if dim == 0 else "length"
    if rank == 3 and len(inner) == 1 and 3 in own:
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
