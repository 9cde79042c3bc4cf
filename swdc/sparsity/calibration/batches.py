"""Batches of the caller's data, and the arguments of a program in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from swdc.errors import PlanError, told_as

_EXPECTED = "batches as an iterable of batches"
_ADVICE = "make it work in a loop first"


def read(batches: Any) -> Iterator[Any]:
    """Yield batches one by one.

    Raises ``PlanError`` if they are no iterable of batches, or their iterator fails.
    """
    if not isinstance(batches, Iterable) or isinstance(batches, torch.Tensor | Mapping | str | bytes):
        raise PlanError(f"expected {_EXPECTED}, got {type(batches).__name__}; give a list of them, or a data loader")
    with told_as(PlanError, _EXPECTED, _ADVICE):
        reader = iter(batches)
    while True:
        with told_as(PlanError, _EXPECTED, _ADVICE):
            try:
                batch = next(reader)
            except StopIteration:
                return
        yield batch


def length_of(batches: Any) -> int | None:
    """Return the number of batches; ``None`` if it is not known before."""
    try:
        return len(batches)
    except TypeError:
        return None


def arguments_of(batch: Any, inputs: Callable[..., Any] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments in a batch, or in what ``inputs`` returns of it."""
    if inputs is not None:
        with told_as(PlanError, "inputs as a function of a batch", "return what the program takes"):
            batch = inputs(batch)
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (tuple(batch) if isinstance(batch, list | tuple) else (batch,)), {}
