"""Whether two programs are called alike: names, structures and types of arguments and results, sizes, modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.program import Program
from swdc.ir.result_classes import by_fields


def different_calls(one: Program, other: Program, modes: bool = False) -> str | None:
    """Return what one program has otherwise than another in a call, such as "other fixed sizes"; ``None`` if nothing.

    Their graphs may differ. With ``modes``, the training modes of the programs and of their modules are compared, too.
    """
    parts: dict[str, Callable[[Program], Any]] = {
        "other names of arguments": _names,
        "another structure of arguments": lambda p: _structures(p)[0],
        "another structure of results": lambda p: _structures(p)[1],
        "other results that are no tensors": _constants,
        "another type or size of an input": _inputs,
        "other conditions on sizes": lambda p: {(str(c.size), c.relation, c.number) for c in p.facts.conditions},
        "other fixed sizes": lambda p: {(one.name, one.dim, one.size) for one in p.facts.fixed},
        "another batch": lambda p: (p.facts.batch, p.facts.example_only),
    }
    if modes:
        parts["another training mode of a module"] = _modes
    return next((text for text, part in parts.items() if part(one) != part(other)), None)


def _names(program: Program) -> Any:
    info = getattr(program.graph._codegen, "pytree_info", None)
    return None if info is None else list(info.orig_args)


def _structures(program: Program) -> tuple[Any, Any]:
    info = getattr(program.graph._codegen, "pytree_info", None)
    return (None, None) if info is None else (by_fields(info.in_spec), by_fields(info.out_spec))


def _inputs(program: Program) -> list[Any]:
    inputs = program.graph.find_nodes(op="placeholder")
    return [(node.name, str(node.meta.get(DTYPE)), str(node.meta.get(SHAPE))) for node in inputs]


def _constants(program: Program) -> list[Any]:
    (output,) = program.graph.find_nodes(op="output")
    leaves = pytree.tree_leaves(output.args[0])
    return [None if isinstance(leaf, fx.Node) else (type(leaf).__name__, str(leaf)) for leaf in leaves]


def _modes(program: Program) -> dict[str, bool]:
    return {"": program.training, **{path: leaf.training for path, leaf in program.leaves.items()}}
