"""Embedding tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import WRITES
from swdc.ops.base import Leaf, Operator, register
from swdc.ops.leaf_modules import adopt, bare, refs
from swdc.ops.special_activations import zero_only


@register
class Embedding(Leaf):
    """A table whose rows are looked up by index: its columns are channels."""

    names = ("aten.embedding.default",)
    modules = (nn.Embedding,)
    width = "embedding_dim"
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)}
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
        """Return the call that the module represents."""
        assert isinstance(module, nn.Embedding)
        return "aten.embedding.default", {
            **refs(module, path, "weight"),
            "padding_idx": -1 if module.padding_idx is None else module.padding_idx,
            "scale_grad_by_freq": module.scale_grad_by_freq,
            "sparse": module.sparse,
        }


@register
class EmbeddingBag(Operator):
    """Rows looked up by index and reduced bag by bag: the columns are channels; a dead one gives zero."""

    names = (
        "aten.embedding_bag.default", "aten.embedding_bag.padding_idx", "aten._embedding_bag.default",
        "aten._embedding_bag_forward_only.default",
    )  # fmt: skip

    def couple(self, call: Call, channels: Channels) -> None:
        """The first result carries the channels of the table's columns, the others hold none."""
        weight = call["weight"]
        reason = call.reason("rows are looked up by the data")
        channels.freeze(channels.channels(weight, 0), reason)
        for value in call.tensors()[1:]:
            channels.freeze_value(value, reason)
        columns = channels.channels(weight, 1)
        channels.bind(weight, 1, columns, WRITES, call)
        _, *others = call.shape
        channels.set(call, [[None, columns], *([None] * len(shape) for shape in others)])  # type: ignore[arg-type]

    def fold(self, call: Call, channels: Channels) -> None:
        """Zeros stay zeros in sums, means and maxima, and an empty bag gives zero."""
        _, *others = call.shape
        dead = zero_only(channels.dead(call["weight"])[1])
        channels.set_dead(call, [[UNKNOWN, dead], *([UNKNOWN] * len(shape) for shape in others)])  # type: ignore[arg-type]


@register
class EmbeddingRenorm(Operator):
    """The rows that are looked up, scaled down to a largest norm: a dead column adds nothing to any norm."""

    names = ("aten.embedding_renorm.default", "aten.embedding_renorm_.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels of the columns pass, if a dead one is zero."""
        weight = call["self"]
        labels = channels.labels(weight)
        channels.freeze(labels[0], call.reason("rows are looked up by the data"))
        channels.freeze_value(call["indices"], call.reason("chooses the rows of a table"))
        channels.absorb(call, labels[1], channels.dead(weight)[1], folds=False)
        channels.set(call, [None, labels[1]])

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero."""
        channels.set_dead(call, [UNKNOWN, zero_only(channels.dead(call["self"])[1])])
