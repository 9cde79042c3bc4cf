"""What ``torch.export`` assumed of the batch: where an assumption does not hold, the model may be another function."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from swdc.capture.captured_graph import Captured

_LARGE = 10007
_MOST = 64
"""The largest batch that is looked at, one by one."""


def holds_for_large_batches(captured: Captured) -> bool:
    """Whether the graph is that of large batches, too: code such as ``if len(x) > 100`` sets a limit."""
    return all(_holds(guard, _LARGE) for guard in _guards(captured))


def doubtful_batches(captured: Captured) -> tuple[int, ...]:
    """Return the smallest batch for which each assumption does not hold, such as 4 for ``len(x) % 4 != 0``."""
    found = (next((b for b in range(1, _MOST) if not _holds(guard, b)), None) for guard in _guards(captured))
    return tuple(dict.fromkeys(batch for batch in found if batch is not None))


def _guards(captured: Captured) -> list[Any]:
    """Return the assumptions that concern the leading sizes of the inputs alone, all of them as one symbol."""
    sizes = [_leading(node.meta.get("val")) for node in captured.graph.find_nodes(op="placeholder")]
    symbolic: list[Any] = [size.node for size in sizes if isinstance(size, torch.SymInt)]
    if not symbolic:
        return []
    batch = dict.fromkeys((node.expr for node in symbolic), sympy.Symbol("batch", integer=True, positive=True))
    guards = [guard.expr.subs(batch) for guard in symbolic[0].shape_env.guards]
    return [guard for guard in guards if guard.free_symbols <= set(batch.values())]


def _leading(value: Any) -> Any:
    return value.shape[0] if isinstance(value, torch.Tensor) and value.dim() else None


def _holds(guard: Any, batch: int) -> bool:
    return bool(guard.subs(dict.fromkeys(guard.free_symbols, batch)))
