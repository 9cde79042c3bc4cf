"""What a run of a model is, as far as it is noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.captured import Value


class CannotFollow(Exception):  # noqa: N818
    """What a model does cannot be told from running it without values."""


@dataclass(frozen=True)
class Slot:
    """A tensor that a call reads: ``kind`` is input, tensor (of the model), constant, or call; ``key`` which one."""

    kind: str
    key: Any


@dataclass(frozen=True)
class Step:
    """One call of an operator, with a ``Slot`` in the place of each tensor."""

    target: Any
    args: Any
    kwargs: Any
    results: tuple[Value | None, ...]
    single: bool
    scope: tuple[str, str]
    line: str
    learns: bool


@dataclass(frozen=True)
class Run:
    """All calls of one run, and what it returned."""

    batch: int
    steps: list[Step]
    outputs: list[Any]
    structure: pytree.TreeSpec
    constants: Mapping[str, torch.Tensor]
