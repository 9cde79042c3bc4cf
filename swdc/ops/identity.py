"""Identities: calls that return one of their inputs unchanged, and the facts needed to find them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from swdc.ir.call import Call, Ref
from swdc.ir.graph import SHAPE

FORMATS = (None, torch.contiguous_format, torch.preserve_format)
"""The memory layouts that a call may ask for and still return its input unchanged."""


@dataclass(frozen=True)
class Identity:
    """The value that a call returns unchanged; ``copies`` says that the result has memory of its own."""

    source: fx.Node
    copies: bool


def alias_of(value: Any) -> Identity | None:
    """Return the identity of a call that returns the value itself; ``None`` for a tensor of the model."""
    return Identity(value, copies=False) if isinstance(value, fx.Node) else None


def copy_of(value: Any) -> Identity | None:
    """Return the identity of a call that returns a copy of a value; ``None`` for a tensor of the model."""
    return Identity(value, copies=True) if isinstance(value, fx.Node) else None


def has_size(value: Any, dim: int) -> bool:
    """Whether the size of a dimension of a node's value is known; else it may be one, or any other, in another run."""
    return isinstance(value, fx.Node) and isinstance(value.meta[SHAPE][dim], int)


@dataclass(frozen=True)
class Evaluation:
    """The facts about a program in evaluation that an operator needs to find an identity.

    ``has_traced_types`` says that the tensors that the program reads have the same types as when it was traced;
    ``devices`` are their devices. ``instead`` maps identities that are already known to their sources.
    """

    calls: Mapping[fx.Node, tuple[Any, Call]]
    tensors: Mapping[str, torch.Tensor]
    devices: frozenset[torch.device]
    has_traced_types: bool
    instead: Mapping[fx.Node, fx.Node]

    def maker(self, value: fx.Node) -> Call | None:
        """Return the call that computed a value, skipping known identities; ``None`` for an input of the program."""
        _, call = self.calls.get(self.instead.get(value, value), (None, None))
        return call

    def is_all(self, constant: Any, number: int) -> bool:
        """Whether a literal, or every element of a tensor of the program, equals ``number``."""
        if isinstance(constant, Ref):
            tensor = self.tensors[constant]
            return not tensor.is_meta and bool((tensor == number).all())
        return isinstance(constant, int | float) and constant == number
