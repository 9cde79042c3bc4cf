"""Transposed convolutions in one, two and three dimensions, with groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.channels.dead_values import UNKNOWN, Dead, affine, product
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import WRITES, Ids
from swdc.ops.affine_layers import Layer, through_weights
from swdc.ops.affine_rows import each
from swdc.ops.base import register
from swdc.ops.call_cost import Cost, Quotient, ShapeOf, Use
from swdc.ops.convolution import (
    channel_dim,
    couple_groups,
    freezes,
    geometry,
    has_fixed_groups,
    left_groups,
    multiply_adds,
    pointwise,
    unsaid_groups,
)
from swdc.ops.leaf_modules import adopt, bare


@register
class TransposedConvolution(Layer):
    """A transposed convolution: its weight has the input channels first, then the output channels of one group.

    No constant is folded, because the number of input positions that reach an output position differs at the borders
    and with the stride.
    """

    names = ("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
    modules = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    family = "convolution"
    width = "out_channels"
    options = ("stride", "padding", "output_padding", "groups", "dilation")
    inputs_first = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the input with the weight's first dimension, and the result with its second in each group."""
        x, weight = call["input"], call["weight"]
        if freezes(call, channels):
            return
        dim = channel_dim(call, channels)
        out = self._couple_channels(call, channels, dim)
        channels.bind(call["bias"], 0, out, WRITES, call)
        passing, labels = pointwise(call, channels.sizes), channels.labels(x)
        channels.hold(x, (d for d in range(len(labels)) if d != dim and d not in passing), call)
        channels.hold(weight, range(2, len(channels.sizes(weight))), call)
        channels.set(call, [out if d == dim else ids if d in passing else None for d, ids in enumerate(labels)])

    def _couple_channels(self, call: Call, channels: Channels, dim: int) -> Ids | None:
        """Return the labels of the result's channels."""
        x, weight, groups = call["input"], call["weight"], call["groups"]
        written = channels.sizes(weight)[1]
        if groups == 1:
            channels.contract(call, x, dim, weight, 0, folds=False)
            out = channels.channels(weight, 1)
            channels.bind(weight, 1, out, WRITES, call)
            return out
        inputs, out = channels.channels(x, dim), channels.fresh(groups * written)
        _, places = couple_groups(call, channels, groups, inputs, out)
        channels.bind(weight, 0, inputs, WRITES, call)  # a mask zeroes everything that a group writes
        channels.bind(weight, 1, places, WRITES, call)
        channels.absorb(call, inputs, product(channels.dead(x)[dim], channels.dead(weight)[0]), folds=False)
        return out

    def fold(self, call: Call, channels: Channels) -> None:
        """Dead filters with a zero bias give zero; so does a dead group, whose inputs add nothing."""
        if not has_fixed_groups(call):
            return
        weight, bias = call["weight"], call["bias"]
        written: Dead = channels.dead(weight)[1]
        if channels.sizes(weight)[1] == 1:
            written = channels.dead.zeroed(written)
        if call["groups"] > 1:
            written = 0.0 if np.all(np.asarray(written) == 0.0) else UNKNOWN
        dead = affine(written, 0.0 if bias is None else channels.dead(bias)[0])
        dim, passing = channel_dim(call, channels), pointwise(call, channels.sizes)
        others = through_weights(call, channels.dead(call["input"]))
        channels.set_dead(
            call, [dead if d == dim else value if d in passing else UNKNOWN for d, value in enumerate(others)]
        )

    def folds(self, call: Call) -> bool:
        """False: a constant adds less at the borders, and between the steps of a stride."""
        return False

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The number of groups falls by the groups that are removed."""
        return left_groups(call, kept)

    def unsaid(self, arguments: Mapping[str, Any]) -> str:
        """Groups have to be a number."""
        return unsaid_groups(arguments)

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f_in x f_out x k^2 x positions; each input position takes part in k^2 multiply-adds."""
        read, written = multiply_adds(call, shape_of)
        positions = tuple((call["input"], d) for d in pointwise(call, shape_of))
        return (Cost((*positions, (call["weight"], 0), (call["weight"], 1)), read, written, read),)

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """Sizes: groups, and the channels that each group reads and writes."""
        weight = call["weight"]
        options, dim = geometry(call, shape_of)
        options = (*options, ("output_padding", each(call["output_padding"], len(shape_of(weight)) - 2)))
        read, written, whole = (weight, 0), (weight, 1), (call.node, dim)
        groups = Quotient((whole,), (written,))
        return (Use("ConvTranspose", options, (groups, Quotient((read, written), (whole,)), Quotient((written,)))),)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.ConvTransposeNd``."""
        weight = tensors[call["weight"]]
        rank, groups = weight.dim() - 2, call["groups"]
        options = {name: each(call[name], rank) for name in self.options if name != "groups"}
        module = bare(
            self.modules[rank - 1], weight.shape[0], weight.shape[1] * groups, tuple(weight.shape[2:]),
            groups=groups, bias=call["bias"] is not None, **options,
        )  # fmt: skip
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the transposed convolution that the module represents."""
        assert isinstance(module, self.modules)
        return self.names[module.weight.dim() - 3], super().arguments(module, path)[1]
