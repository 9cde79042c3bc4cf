"""Identities: what an operator says of a call that gives back what it reads, and what it may ask to find out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from swdc.ir.call import Call, Ref

FORMATS = (None, torch.contiguous_format, torch.preserve_format)
"""The layouts in memory that a call may ask for and still give back what it reads."""


@dataclass(frozen=True)
class Identity:
    """What a call gives back; ``copies`` says that it does so in memory of its own."""

    source: fx.Node
    copies: bool


def alias_of(value: Any) -> Identity | None:
    """Return the identity of a call that gives back the very memory of a value; ``None`` for a tensor of the model."""
    return Identity(value, copies=False) if isinstance(value, fx.Node) else None


def copy_of(value: Any) -> Identity | None:
    """Return the identity of a call that gives back a copy of a value; ``None`` for a tensor of the model."""
    return Identity(value, copies=True) if isinstance(value, fx.Node) else None


@dataclass(frozen=True)
class Evaluation:
    """A program in evaluation, as an operator sees it that says what a call gives back.

    ``has_traced_types`` says that the tensors that the program reads have the types that they had when it was traced;
    ``devices`` are those on which they are. ``instead`` names what stands for the identities that are known already.
    """

    calls: Mapping[fx.Node, tuple[Any, Call]]
    tensors: Mapping[str, torch.Tensor]
    devices: frozenset[torch.device]
    has_traced_types: bool
    instead: Mapping[fx.Node, fx.Node]

    def maker(self, value: fx.Node) -> Call | None:
        """Return the call that made a value, identities in between aside; ``None`` for an input of the program."""
        _, call = self.calls.get(self.instead.get(value, value), (None, None))
        return call

    def is_all(self, constant: Any, number: int) -> bool:
        """Whether a literal, or every element of a tensor of the program, is a number."""
        if isinstance(constant, Ref):
            tensor = self.tensors[constant]
            return not tensor.is_meta and bool((tensor == number).all())
        return isinstance(constant, int | float) and constant == number
