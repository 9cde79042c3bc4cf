"""Shapes of recurrent layers during capture, without following every step of the sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from swdc.ops.in_place import operator_of
from swdc.ops.recurrent import LAYERS


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


def _empty_results(layer: Any, *args: Any) -> Any:
    return operator_of(layer).empty_result(layer, args)
