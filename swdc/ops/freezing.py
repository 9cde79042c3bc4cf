"""Freezing the channels of whole calls: those of their inputs, and those of their results."""

from __future__ import annotations

from typing import Any

from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ir.graph import SHAPE


def freeze_inputs(call: Call, channels: Channels, text: str) -> None:
    """Freeze all inputs of a call that looks at every channel; its parameters and buffers keep all theirs."""
    for value in call.tensors():
        if isinstance(value, Ref):
            channels.hold(value, range(len(channels.sizes(value))), call)
        else:
            channels.freeze_value(value, call.reason(text))


def freeze_call(call: Call, channels: Channels, text: str, edit: str = "") -> None:
    """Freeze the channels of all inputs and results of a call."""
    reason = call.reason(text, edit)
    for value in call.tensors():
        channels.freeze_value(value, reason)
    channels.set(call, freeze_result(call, channels, reason))


def freeze_result(call: Call, channels: Channels, reason: Any) -> list[Any]:
    """Return fresh frozen labels for every static dimension of a call's result, or of its results."""
    shape = call.node.meta.get(SHAPE)
    if shape and isinstance(shape[0], tuple):
        return [_frozen(s, channels, reason) for s in shape]
    return _frozen(shape, channels, reason)


def _frozen(shape: Any, channels: Channels, reason: Any) -> list[Any]:
    labels = [channels.fresh(size) if isinstance(size, int) and size > 1 else None for size in shape or ()]
    for ids in labels:
        channels.freeze(ids, reason)
    return labels
