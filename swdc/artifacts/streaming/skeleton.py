"""Tracing a model whose parameters never take memory, for a checkpoint that is planned and slimmed tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from swdc.artifacts.storage.checkpoint_reader import Checkpoint
from swdc.capture import meta_model
from swdc.capture.trace import Example
from swdc.errors import TraceError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.program import Program
from swdc.ir.trace_options import HEADS


@checked(TraceError)
def trace_skeleton(
    make: Callable[..., Any], example_inputs: Example, weights: Mapping[str, torch.Tensor], attention: str = HEADS
) -> Program:
    """Return the program of the model that ``make()`` returns, in evaluation, with its parameters on the meta device.

    ``weights``, a ``swdc.Checkpoint`` or tensors by name, says which tensors the model gets later, and in which types;
    none of them is read. Buffers that they lack, such as rotary frequencies, keep the values that the model computes,
    which are lost when a model is made within ``torch.device("meta")``. The rest is as in ``swdc.trace``. The
    program is for ``swdc.plan(weights=)`` and ``swdc.slim_checkpoint``.

    Raises ``TraceError`` if ``make`` fails or returns no module, and as ``swdc.trace`` does.

    Example::

        weights = swdc.Checkpoint("model.safetensors")
        skeleton = swdc.trace_skeleton(make_model, x, weights)
    """
    stored = weights if isinstance(weights, Checkpoint) else None
    types = {name: weights[name].dtype if stored is None else stored.entry(name).dtype for name in weights}
    return meta_model.trace_skeleton(lambda: _made(make), example_inputs, types, attention)


def _made(make: Callable[..., Any]) -> nn.Module:
    with told_as(TraceError, "a function that makes a model without arguments", "make it work outside first"):
        model = make()
    if not isinstance(model, nn.Module):
        raise TraceError(f"expected a function that makes a torch.nn.Module, got {type(model).__name__} from it")
    return model
