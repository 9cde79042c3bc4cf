"""The table of blocks that random networks are composed of.

A block is a function that makes a module from random choices and from the slots (layout and shape) of the values that
it will read, or ``None`` if these do not suit it. The decorator ``block`` adds it to the table.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import nn

CHANNEL_DIM = {"map": 1, "token": 2, "vector": 1, "node": 1}
"""The dimension of channels in each layout: (N, C, *positions), (N, T, C), (N, C), (nodes, C)."""
ANY = "any"
SAME, BESIDE, FREE = "same", "beside", "free"
"""How the further values of a block are like the first: in shape, in all but channels, in layout only."""

T = TypeVar("T")


class Draw(random.Random):
    """Random choices."""

    def width(self) -> int:
        """Return a number of channels."""
        return self.choice((2, 3, 4, 4, 6, 6, 8, 9))

    def flip(self, chance: float = 0.5) -> bool:
        """Return true with the given chance."""
        return self.random() < chance

    def one_of(self, *options: T) -> T:
        """Return one of the options."""
        return self.choice(options)

    def divisor(self, number: int) -> int:
        """Return a divisor of a number other than one, or the number itself if there is none."""
        return self.choice([d for d in range(2, number + 1) if number % d == 0] or [number])

    def torch_seed(self) -> int:
        """Return a seed for torch."""
        return self.randrange(2**31)


@dataclass(frozen=True)
class Slot:
    """What a block knows about a value when it is made: its layout, and its shape for the example inputs."""

    layout: str
    shape: tuple[int, ...]

    @property
    def dim(self) -> int:
        """The dimension of the channels."""
        return CHANNEL_DIM[self.layout]

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.shape[self.dim]

    @property
    def positions(self) -> tuple[int, ...]:
        """The sizes of all dimensions but the batch and the channels."""
        return tuple(s for d, s in enumerate(self.shape) if d not in (0, self.dim))

    @property
    def number(self) -> int:
        """The number of positions."""
        return prod(self.positions)

    @property
    def spatial(self) -> list[int]:
        """The dimensions of the positions."""
        return [d for d in range(1, len(self.shape)) if d != self.dim]

    @property
    def aside(self) -> tuple[int, ...]:
        """The shape that a vector of one number for each channel needs in order to broadcast: (-1, 1, 1)."""
        return (-1,) + (1,) * (len(self.shape) - self.dim - 1)


def normal(*shape: int) -> nn.Parameter:
    """Return a parameter from a normal distribution."""
    return nn.Parameter(torch.randn(shape) / 2)


def positive(*shape: int) -> nn.Parameter:
    """Return a parameter between a half and one and a half."""
    return nn.Parameter(torch.rand(shape) + 0.5)


Maker = Callable[..., nn.Module | None]


@dataclass(frozen=True)
class Block:
    """A row of the table. It reads ``more`` further values, which are like the first as ``relation`` says."""

    name: str
    family: str
    takes: tuple[str, ...]
    gives: str
    more: int
    relation: str
    make: Maker


TABLE: dict[str, Block] = {}


def block(family: str, *takes: str, gives: str = "", more: int = 0, relation: str = FREE) -> Callable[[Maker], Maker]:
    """Add a maker of modules to the table, under its name.

    It reads one value of each layout in ``takes`` (``any`` is any layout with channels), then ``more`` values of the
    layout of the first; its results have the layout ``gives``, or that of the first.
    """

    def add(make: Maker) -> Maker:
        if make.__name__ in TABLE:
            raise ValueError(f"expected a new name for a block, got {make.__name__!r} again; rename one of them")
        TABLE[make.__name__] = Block(make.__name__, family, takes, gives, more, relation, make)
        return make

    return add


def is_like(relation: str, first: Slot, other: Slot) -> bool:
    """Whether a slot is like the first one of a block in the way that the block asks for."""
    if first.layout != other.layout:
        return False
    if relation == SAME:
        return first.shape == other.shape
    if relation == BESIDE:
        return first.positions == other.positions and first.shape[0] == other.shape[0]
    return True


def sequence(*modules: nn.Module) -> nn.Sequential:
    """Return modules one after another."""
    return nn.Sequential(*modules)


def pieces(draw: Draw, total: int, least: int = 2) -> Sequence[int]:
    """Return random positive sizes that add up to ``total``, at least ``least`` of them if it is large enough."""
    number = min(total, draw.randint(least, least + 1))
    cuts = sorted(draw.sample(range(1, total), number - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
