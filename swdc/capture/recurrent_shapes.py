"""Shapes of recurrent layers during capture, without following every step of the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from swdc.ops.in_place import operator_of
from swdc.ops.recurrent import FUNCTIONS, LAYERS


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Let recurrent layers return results of the right shape without computing them: capture needs only the shape.

    Otherwise torch would decompose each layer into the steps of the sequence. That takes seconds for each layer, in
    proportion to the length of the sequence.
    """
    replaced = [(layer, dict(layer.py_kernels)) for layer in LAYERS]
    try:
        for layer, kernels in replaced:
            layer.py_kernels.update(dict.fromkeys(kernels, partial(_empty_results, layer)))
            layer._dispatch_cache.clear()
        yield
    finally:
        for layer, kernels in replaced:
            layer.py_kernels.update(kernels)
            layer._dispatch_cache.clear()


def results_of(function: Any, args: Sequence[Any]) -> tuple[torch.Tensor, ...] | None:
    """Return the results, without values, of a recurrent function on the meta device; ``None`` for any other call."""
    layer = FUNCTIONS.get(function)
    return _empty_results(layer, *args) if layer is not None and args[0].is_meta else None


def _empty_results(layer: Any, *args: Any) -> Any:
    return operator_of(layer).empty_result(layer, args)
