"""Fused attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from swdc.channels.dead_values import UNKNOWN, Dead, product
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref, Value
from swdc.ir.groups import Ids
from swdc.ir.trace_options import HEAD_DIM, HEADS
from swdc.ops.base import Operator, register
from swdc.ops.call_cost import Cost, Dim, Quotient, ShapeOf, Use
from swdc.ops.sizes_of_parts import broadcast_sizes
from swdc.ops.special_activations import zero_only


@register
class Attention(Operator):
    """softmax(q k^T scale + mask) v. The number of query heads is a multiple of that of key and value heads.

    Heads are coupled: a head of keys with all heads of queries that use it. A dead head of values gives zero, whatever
    its scores are. The scale stays that of the original head_dim.
    """

    names = ("aten.scaled_dot_product_attention.default",)
    functions = (functional.scaled_dot_product_attention,)
    attention = "whole"
    repeats = True
    layout = "chosen"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple heads, and the head_dim of queries and keys; positions hold no channels."""
        query, key, value = call["query"], call["key"], call["value"]
        rank = len(call.shape)
        for operand in (query, key, value):
            channels.hold(operand, [len(channels.sizes(operand)) - 2], call)
        width = self._pair(call, channels, query, key, -1)
        dead = product(channels.dead(query)[-1], channels.dead(key)[-1])
        channels.absorb(call, width, dead, folds=False)
        leading = [self._leading(call, channels, dim) for dim in range(-rank, -2)]
        positions = len(channels.sizes(value)) - 1
        for ids in leading:
            channels.mark(ids, HEADS)
        for ids in (width, channels.channels(value, positions)):
            channels.mark(ids, HEAD_DIM)
        if call["attn_mask"] is not None:
            self._couple_mask(call, channels, leading)
        channels.set(call, [*leading, None, channels.channels(value, positions)])

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Exporters know it for four dimensions alone."""
        return attention_of_four

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Each query gets a row of values."""
        query, key, value = ([*arguments[name].shape] for name in ("query", "key", "value"))
        if query[-1] != key[-1] or key[-2] != value[-2]:
            return None
        heads = 1 if arguments.get("enable_gqa") else 0
        leading = broadcast_sizes([sizes[: -2 - heads] for sizes in (query, key, value)])
        mask = arguments.get("attn_mask")
        if leading is None or (mask is not None and broadcast_sizes([mask.shape, [query[-2], key[-2]]]) is None):
            return None
        return [[*leading, *query[-2 - heads : -1], value[-1]]]

    def _pair(self, call: Call, channels: Channels, one: Value, other: Value, dim: int) -> Ids | None:
        """Join a dimension of two operands, in blocks if the first is larger. Return the labels of the first."""
        first, second = (_channels(channels, value, dim) for value in (one, other))
        if first is None and second is None:
            return None
        if first is not None and second is not None and len(first) > len(second) and len(first) % len(second) == 0:
            second = np.repeat(second, len(first) // len(second))
        return channels.join(first, second, call)

    def _leading(self, call: Call, channels: Channels, dim: int) -> Ids | None:
        query, key, value = call["query"], call["key"], call["value"]
        labels = _channels(channels, query, dim)
        for other in (key, value):
            if len(channels.sizes(other)) < -dim:
                continue
            if channels.sizes(other)[dim] == 1 and not call["enable_gqa"]:
                continue
            labels = self._pair(call, channels, query, other, dim)
        return labels

    def _couple_mask(self, call: Call, channels: Channels, leading: list[Ids | None]) -> None:
        mask = call["attn_mask"]
        sizes = channels.sizes(mask)
        channels.hold(mask, [d for d in range(len(sizes)) if d >= len(sizes) - 2], call)
        for dim in range(-len(sizes), -2):
            ids, other = leading[dim + 2], _channels(channels, mask, dim)
            if sizes[dim] != 1 and (ids is not None or other is not None):
                channels.join(ids, other, call)

    def fold(self, call: Call, channels: Channels) -> None:
        """The result is a weighted mean of values, so it keeps their dead values.

        With a mask or dropout only zeros stay: a row of which all is masked is zero, and dropout scales what is left.
        """
        dead = channels.dead(call["value"])
        if call["attn_mask"] is not None or call["dropout_p"] != 0:
            dead = [zero_only(d) for d in dead]
        missing = len(call.shape) - len(dead)
        sizes = (1,) * missing + channels.sizes(call["value"])
        known: list[Dead] = [*[UNKNOWN] * missing, *dead]
        heads = [
            _repeated(d, ids, size) if size != 1 else UNKNOWN
            for d, ids, size in zip(known, channels.labels(call.node), sizes, strict=True)
        ]
        channels.set_dead(call, [*heads[:-2], UNKNOWN, heads[-1]])

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """If the head_dim shrinks, the scale of the original head_dim is passed explicitly."""
        query = call["query"]
        shape = () if isinstance(query, Ref) else query.meta["shape"]
        mask = kept.mask(query, len(shape) - 1) if shape else None
        if call["scale"] is not None or mask is None or mask.all():
            return {}
        return {"scale": 1 / sqrt(len(mask))}

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """The scores, a product over head_dim for each pair of positions, and the sums of values that they weigh.

        A mask, causal or not, takes away none of them.
        """
        query, key, value = call["query"], call["key"], call["value"]
        rank = len(shape_of(query))
        pairs = (*_heads((query, key, value), shape_of), (query, rank - 2), (key, len(shape_of(key)) - 2))
        return (
            Cost((*pairs, (query, rank - 1)), 0, 0, 1),
            Cost((*pairs, (value, len(shape_of(value)) - 1)), 0, 0, 1),
        )

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """Scores, their softmax, and means of the values."""
        query, key, value = call["query"], call["key"], call["value"]
        rank = len(shape_of(query))
        leading = tuple((query, d) for d in range(rank - 2))
        rows, inner, columns, out = (query, rank - 2), (query, rank - 1), (key, rank - 2), (value, rank - 1)
        return (
            Use("MatMul", (), (Quotient(leading), Quotient((rows,)), Quotient((inner,)), Quotient((columns,)))),
            Use("Softmax", (), (Quotient((*leading, rows, columns)),)),
            Use("MatMul", (), (Quotient(leading), Quotient((rows,)), Quotient((columns,)), Quotient((out,)))),
        )


def _heads(operands: Sequence[Value], shape_of: ShapeOf) -> list[Dim]:
    """Return the batch and the heads of an attention: for each the dimension of the first operand that has them."""
    most = max(len(shape_of(operand)) for operand in operands)
    found = []
    for dim in range(-most, -2):
        having = [operand for operand in operands if len(shape_of(operand)) >= -dim]
        chosen = next((operand for operand in having if shape_of(operand)[dim] != 1), having[0])
        found.append((chosen, dim + len(shape_of(chosen))))
    return found


def _channels(channels: Channels, value: Value, dim: int) -> Ids | None:
    rank = len(channels.sizes(value))
    return channels.channels(value, dim + rank) if -dim <= rank and channels.sizes(value)[dim] != 1 else None


def _repeated(dead: Dead, labels: Any, size: int) -> Dead:
    """Return the dead values of the result's heads: blocks of them share a head of values."""
    if isinstance(dead, float) or labels is None or len(labels) == size:
        return dead
    repeated: Dead = np.repeat(dead, len(labels) // size)
    return repeated


def attention_of_four(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """Return the attention of queries of any rank from three on, computed in four dimensions.

    Shapes are ``(..., heads, positions, channels)``; with fewer dimensions there is one head, and with more of them
    the first ones are joined.
    """
    attend = functional.scaled_dot_product_attention
    if query.dim() == 4:
        return attend(query, key, value, attn_mask, **options)
    if query.dim() < 4:
        one = None if attn_mask is None else attn_mask.unsqueeze(-3)
        return attend(query.unsqueeze(-3), key.unsqueeze(-3), value.unsqueeze(-3), one, **options).squeeze(-3)
    leading = query.shape[:-3]
    query, key, value = (operand.flatten(0, -4) for operand in (query, key, value))
    if attn_mask is not None and attn_mask.dim() > 2:
        heads = attn_mask.shape[-3]
        attn_mask = attn_mask.expand(*leading, heads, *attn_mask.shape[-2:]).flatten(0, -4)
    result = attend(query, key, value, attn_mask, **options)
    return result.reshape(*leading, *result.shape[1:])


def unfuse(module: nn.Module) -> None:
    """Let a layer of torch.nn call its parts one by one: its fused path computes every norm as the usual one."""
    if isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0  # which activation the fused path would compute; 0 is none that it knows
