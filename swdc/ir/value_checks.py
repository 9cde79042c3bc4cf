"""Checks of values in a graph: the program stands for inputs only whose values meet them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from swdc.errors import UnmetError

_PURE = ("_operator", "math")
"""Modules whose functions compute with numbers and sizes; torch's own for sizes begin with ``sym_``."""
_WRITING = frozenset(
    "iadd iand iconcat ifloordiv ilshift imod imul imatmul ior ipow irshift isub itruediv ixor setitem delitem".split()
)
"""The functions of ``operator`` that write to their first argument."""

STANDS = "expected inputs in which "
"""The start of the message of a check that capture adds to a graph."""
READS = f"{STANDS}the model reads "
"""The start of the message of a check that the model reads what it read from the example."""
_EARLIER = "the program stands for inputs in which "
"""The start of such a message in folders of earlier versions."""


@contextmanager
def told_as_unmet() -> Iterator[None]:
    """Turn the error that torch raises for a check that capture added into an ``UnmetError``; let others pass."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if text.startswith(_EARLIER):
            text = f"{STANDS}{text.removeprefix(_EARLIER)}, got others; trace the model again with these inputs"
        if isinstance(error, UnmetError) or not text.startswith(STANDS):
            raise
        raise UnmetError(text) from None


def checks_of_reads(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that check what the model reads; recording adds them, and no other way of capture."""
    return [node for node in graph.nodes if node.op == "call_function" and _is_of_read(node)]


def with_what_they_need(graph: fx.Graph) -> set[fx.Node]:
    """Return the checks of what the model reads, with all that is computed for them alone.

    What writes to a tensor, or draws, concerns others, too.
    """
    found = set(checks_of_reads(graph))
    for node in reversed(graph.nodes) if found else ():
        if node.op == "call_function" and node.users and node.users.keys() <= found and _concerns_no_other(node):
            found.add(node)
    return found


def _concerns_no_other(node: fx.Node) -> bool:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags
    name = getattr(target, "__name__", "")
    return name.startswith("sym_") or (getattr(target, "__module__", "") in _PURE and name not in _WRITING)


def _is_of_read(node: fx.Node) -> bool:
    text = node.args[1] if len(node.args) == 2 else None
    if not isinstance(text, str) or not text.startswith(READS):
        return False
    schema: Any = getattr(node.target, "_schema", None)  # a check returns nothing, so that it can do nothing else
    return schema is not None and not schema.returns and _concerns_no_other(node)
