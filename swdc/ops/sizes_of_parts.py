"""The sizes of results, where sizes may be symbols: of parts of a dimension, and of tensors that are broadcast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

NO_END = (None, 2**63 - 1)
"""Ends of a range that mean the end of the dimension."""


def sizes_of_parts(arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
    """Return the sizes of the results of a split into parts of one size; ``None`` if the sizes are given.

    How many parts there are is asked of the symbols.
    """
    sizes = list(arguments["self"].shape)
    dim, part = arguments.get("dim", 0) % len(sizes), arguments.get("split_size")
    if part is None and "chunks" in arguments:
        part = (sizes[dim] + arguments["chunks"] - 1) // arguments["chunks"]
    if isinstance(part, list | tuple) or part is None or part == 0:
        return None
    left, parts = sizes[dim], []
    while left > part:
        parts.append(part)
        left = left - part
    return [[*sizes[:dim], size, *sizes[dim + 1 :]] for size in (*parts, left)]


def broadcast_sizes(shapes: Sequence[Sequence[Any]]) -> list[Any] | None:
    """Return the sizes of a result of tensors of these shapes, aligned at the end; ``None`` if they do not fit.

    Of sizes that are symbols, it is asked only whether they are equal.
    """
    found = []
    for dim in range(-max(map(len, shapes), default=0), 0):
        sizes = [shape[dim] for shape in shapes if len(shape) >= -dim]
        wide = [size for size in sizes if type(size) is not int or size != 1] or [1]
        if not all(size == wide[0] for size in wide[1:]):
            return None
        found.append(wide[0])
    return found


def indices_in(arguments: Mapping[str, Any], size: Any) -> Any:
    """Return how many indices of a dimension a range takes; sizes may be symbols."""
    if "length" in arguments:
        return arguments["length"]
    start, end, step = arguments["start"] or 0, arguments["end"], arguments["step"]
    first = 0 if type(start) is int and start == 0 else _place(start, size)
    last = size if end in NO_END else _place(end, size)
    return (torch.sym_max(last - first, 0) + step - 1) // step


def _place(index: Any, size: Any) -> Any:
    """Return the place of an index that may count from the end; a place beyond the dimension is its end."""
    index = index + size if index < 0 else index
    return torch.sym_min(torch.sym_max(index, 0), size)
