"""Embedding tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from swdc.call import Call
from swdc.channels import UNKNOWN, Channels
from swdc.groups import WRITES
from swdc.ops.base import Leaf, register
from swdc.ops.leaves import adopt, bare, refs


@register
class Embedding(Leaf):
    """A table looked up by index: its columns are channels, its rows are chosen by the data."""

    names = ("aten.embedding.default",)
    modules = (nn.Embedding,)
    data = "indices"

    def couple(self, call: Call, channels: Channels) -> None:
        """The result carries the channels of the table's columns."""
        weight = call["weight"]
        channels.freeze(channels.channels(weight, 0), call.reason("rows are looked up by the data"))
        channels.freeze_value(call["indices"], call.reason("chooses the rows of a table"))
        columns = channels.channels(weight, 1)
        channels.bind(weight, 1, columns, WRITES, call)
        channels.set(call, [*[None] * (len(call.shape) - 1), columns])

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead column gives zero."""
        channels.set_dead(call, [UNKNOWN] * (len(call.shape) - 1) + [channels.dead(call["weight"])[1]])

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.Embedding``."""
        rows, columns = tensors[call["weight"]].shape
        padding = call["padding_idx"] if call["padding_idx"] >= 0 else None
        scaled, sparse = call["scale_grad_by_freq"], call["sparse"]
        module = bare(nn.Embedding, rows, columns, padding, scale_grad_by_freq=scaled, sparse=sparse)
        return adopt(module, call, tensors, "weight")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        assert isinstance(module, nn.Embedding)
        return "aten.embedding.default", {
            **refs(module, path, "weight"),
            "padding_idx": -1 if module.padding_idx is None else module.padding_idx,
            "scale_grad_by_freq": module.scale_grad_by_freq,
            "sparse": module.sparse,
        }
