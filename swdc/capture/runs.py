"""What a model does in one run: its calls of operators, and where their tensors come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.capture.captured_graph import Value


@dataclass(frozen=True)
class Slot:
    """Where a tensor comes from: ``kind`` is input, tensor (of the model), constant or call; ``key`` says which one."""

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
    replaced: Mapping[str, Slot]
    """The buffers that the model replaces by tensors of the same form, each with where its tensor comes from."""
    dropped: tuple[str, ...]
    """The buffers that the model replaces by tensors of another form, or in their ``data``."""
    failed: bool
    """Whether an operator failed, and the model's code went on: it may not fail at other sizes."""
    counted: Mapping[str, int]
    """The counters of batch norms that train in this run, each with how far it has counted."""
