"""The type and the device of what a program makes itself: where none is named, and where its graph names one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx.node import map_aggregate

from swdc.ir.program import Program


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of ``dtype``: a program that is run in another type makes its own in that, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def cast_literals(program: Program, types: Collection[torch.dtype], dtype: torch.dtype) -> None:
    """Name ``dtype`` in a program's graph wherever it names one of ``types``. The tensors stay as they are."""
    _change_literals(program, lambda value: dtype if isinstance(value, torch.dtype) and value in types else value)


def move_literals_to_cpu(program: Program) -> None:
    """Name the CPU in a program's graph wherever it names the meta device. The tensors stay where they are."""
    _change_literals(program, on_cpu)


def on_cpu(value: Any) -> Any:
    """Return the CPU for the meta device, anything else as it is."""
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "meta" else value


def _change_literals(program: Program, change: Callable[[Any], Any]) -> None:
    for node in program.graph.nodes:
        node.args, node.kwargs = map_aggregate((node.args, node.kwargs), change)
    program.recompile()
