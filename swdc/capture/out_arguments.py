"""Calls that write into an argument: into ``out``, which torch does not differentiate, or into one that they resize."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import torch


@cache
def without_out(func: Any) -> Any:
    """Return the overload that returns the result, for one that writes it into its argument ``out``; else ``None``."""
    arguments = func._schema.arguments
    if [argument.name for argument in arguments if argument.is_out] != ["out"]:
        return None
    wanted = [_told(argument) for argument in arguments if not argument.is_out]
    others = (getattr(func.overloadpacket, name) for name in func.overloadpacket.overloads())
    return next((o for o in others if [_told(argument) for argument in o._schema.arguments] == wanted), None)


def _told(argument: Any) -> tuple[str, str]:
    return argument.name, str(argument.type)


def elements(value: Any) -> int | None:
    """Return how many elements a tensor has, if all its sizes are plain numbers."""
    sizes = list(value.shape) if isinstance(value, torch.Tensor) else []
    known = isinstance(value, torch.Tensor) and all(type(size) is int for size in sizes)
    return prod(sizes) if known else None
