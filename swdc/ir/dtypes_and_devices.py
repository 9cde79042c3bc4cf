"""The types and devices of the tensors that a program creates: the default type, and those that its graph names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx.node import map_aggregate

from swdc.ir.program import Program


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Create new tensors in ``dtype``, so that a program run in this type creates its own tensors in it, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def cast_literals(program: Program, types: Collection[torch.dtype], dtype: torch.dtype) -> None:
    """Replace each of ``types`` in a program's graph by ``dtype``. The tensors of the program stay as they are."""
    _change_literals(program, lambda value: dtype if isinstance(value, torch.dtype) and value in types else value)


def move_literals_to_cpu(program: Program) -> None:
    """Replace the meta device in a program's graph by the CPU. The tensors of the program stay where they are."""
    _change_literals(program, on_cpu)


def on_cpu(value: Any) -> Any:
    """Return the CPU for the meta device; return any other value unchanged."""
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "meta" else value


def _change_literals(program: Program, change: Callable[[Any], Any]) -> None:
    for node in program.graph.nodes:
        node.args, node.kwargs = map_aggregate((node.args, node.kwargs), change)
    program.recompile()
