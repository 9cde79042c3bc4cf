"""Shapes of recurrent layers during capture, without following every step of the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

_LAYERS = (
    torch.ops.aten.lstm.input,
    torch.ops.aten.gru.input,
    torch.ops.aten.rnn_tanh.input,
    torch.ops.aten.rnn_relu.input,
)
_FUNCTIONS: tuple[Any, ...] = (*_LAYERS, torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Let recurrent layers give results of the right shape and nothing else, for capture asks for no more.

    Torch would run their decomposition, step by step, on tensors without values: seconds for each layer, in
    proportion to the length of the sequence.
    """
    replaced = [(layer, dict(layer.py_kernels)) for layer in _LAYERS]
    try:
        for layer, kernels in replaced:
            layer.py_kernels.update(dict.fromkeys(kernels, _empty_results))
            layer._dispatch_cache.clear()
        yield
    finally:
        for layer, kernels in replaced:
            layer.py_kernels.update(kernels)
            layer._dispatch_cache.clear()


def results_of(function: Any, args: Sequence[Any]) -> tuple[torch.Tensor, ...] | None:
    """Return the results, without values, of a recurrent layer that is called on the meta device; else ``None``."""
    packed = len(args) > 3 and not isinstance(args[3], bool)
    if function not in _FUNCTIONS or packed or not args[0].is_meta:
        return None
    return _empty_results(*args)


def _empty_results(
    x: torch.Tensor,
    hx: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    states = list(hx) if isinstance(hx, list | tuple) else [hx]
    first, second = (1, 0) if batch_first else (0, 1)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    outputs = x.new_empty(x.shape[first], x.shape[second], width)
    return (outputs.transpose(0, 1) if batch_first else outputs, *(torch.empty_like(state) for state in states))
