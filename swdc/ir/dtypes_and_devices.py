"""The types and devices of the tensors that a program creates: the default type, and those that its graph names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from swdc.ir.graph import DTYPE
from swdc.ir.input_check import cast_types
from swdc.ir.program import Program

OWN = "own_dtype"
"""Key of a node's meta: the type that its result had before ``compute_in`` changed it."""


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


def compute_in(program: Program, dtype: torch.dtype) -> None:
    """Change a program's graph so that all that is computed in floating or complex numbers is in ``dtype``.

    Each node remembers the type that it had, under ``OWN`` in its meta data.
    """
    own = {name: tensor.dtype for name, tensor in program.tensors.items()}
    for node in program.graph.nodes:
        node.meta[OWN] = own[str(node.target)] if node.op == "get_attr" else node.meta.get(DTYPE)
        node.meta[DTYPE] = map_aggregate(node.meta.get(DTYPE), lambda value: in_precision_of(dtype, value))
    _change_literals(program, lambda value: in_precision_of(dtype, value))


def in_precision_of(dtype: torch.dtype, value: Any) -> Any:
    """Return ``dtype`` for a floating type, its complex type for a complex one, and any other value unchanged."""
    if not isinstance(value, torch.dtype) or not (value.is_floating_point or value.is_complex):
        return value
    return dtype.to_complex() if value.is_complex else dtype


def float_types(program: Program) -> set[torch.dtype]:
    """Return the floating types in which a program holds tensors, takes inputs or computes; for complex ones their
    parts'.
    """
    inputs = [leaf for leaf in pytree.tree_leaves(program.facts.example) if isinstance(leaf, torch.Tensor)]
    found = {tensor.dtype for tensor in (*program.tensors.values(), *inputs)}
    found.update(pytree.tree_leaves([node.meta.get(DTYPE) for node in program.graph.nodes]))
    types = cast_types(program)
    floating = [t.to_real() for t in found if isinstance(t, torch.dtype) and (t.is_floating_point or t.is_complex)]
    return {types.get(t, t) for t in floating}


def move_literals_to_cpu(program: Program) -> None:
    """Replace the meta device in a program's graph by the CPU. The tensors of the program stay where they are."""
    _change_literals(program, on_cpu)


def on_cpu(value: Any) -> Any:
    """Return the CPU for the meta device; return any other value unchanged."""
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "meta" else value


def _change_literals(program: Program, change: Callable[[Any], Any]) -> None:
    changed = False
    for node in program.graph.nodes:
        args, kwargs = map_aggregate((node.args, node.kwargs), change)
        if (args, kwargs) != (node.args, node.kwargs):
            node.args, node.kwargs, changed = args, kwargs, True
    if changed:
        program.recompile()
