"""Convolutions in one, two and three dimensions, with groups."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import nn

from swdc.call import Call
from swdc.channels import Channels, affine, at
from swdc.groups import WRITES, Ids
from swdc.kept import Kept
from swdc.ops.base import Cost, Leaf, ShapeOf, register
from swdc.ops.leaves import adopt, bare, refs


@register
class Convolution(Leaf):
    """A convolution sums over input channels and writes output channels.

    Of a grouped convolution either whole groups are removed (where there are at least as many groups as channels in
    each, depthwise ones among them), or the same channels of every group: what is left is rectangular either way.
    """

    names = tuple(f"aten.conv{n}d.{overload}" for n in (1, 2, 3) for overload in ("default", "padding"))
    modules = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the input with the weight's second dimension, and the result with its first."""
        x, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
        dim = len(call.shape) - (channels.sizes(weight).__len__() - 1)  # 1 with a batch, 0 without
        out = channels.channels(weight, 0)
        if groups == 1:
            channels.contract(call, x, dim, weight, 1, folds=not _is_padded(call))
        elif whole_groups(channels.sizes(weight), groups):
            self._couple_whole(call, channels, channels.channels(x, dim), out)
        else:
            self._couple_pattern(call, channels, dim)
        channels.bind(weight, 0, out, WRITES, call)
        channels.bind(bias, 0, out, WRITES, call)
        channels.hold(x, (d for d in range(len(call.shape)) if d != dim), call)
        channels.hold(weight, range(2, len(channels.sizes(weight))), call)
        channels.set(call, [out if d == dim else None for d in range(len(call.shape))])

    def _couple_whole(self, call: Call, channels: Channels, inputs: Ids | None, outputs: Ids | None) -> None:
        groups = call["groups"]
        if inputs is None or outputs is None:
            channels.join(inputs, outputs, call)
            return
        rows_in, rows_out = inputs.reshape(groups, -1), outputs.reshape(groups, -1)
        for rows in (rows_in, rows_out):
            for column in range(1, rows.shape[1]):
                channels.join(rows[:, 0], rows[:, column], call)
        channels.join(rows_in[:, 0], rows_out[:, 0], call)

    def _couple_pattern(self, call: Call, channels: Channels, dim: int) -> None:
        groups, weight = call["groups"], call["weight"]
        inputs, outputs = channels.channels(call["input"], dim), channels.channels(weight, 0)
        if outputs is not None:
            rows = outputs.reshape(groups, -1)
            for row in range(1, groups):
                channels.join(rows[0], rows[row], call)
        if inputs is None:
            channels.freeze(channels.channels(weight, 1), call.reason("reads a dimension that holds no channels"))
            return
        rows = inputs.reshape(groups, -1)
        for row in range(1, groups):
            channels.join(rows[0], rows[row], call)
        channels.bind(weight, 1, rows[0], "reads", call)
        dead = at(channels.dead(call["input"])[dim], slice(None))
        channels.absorb(call, inputs, dead, folds=False)

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead filter with its bias gone gives zero."""
        weight, bias = call["weight"], call["bias"]
        dead = affine(channels.dead(weight)[0], 0.0 if bias is None else channels.dead(bias)[0])
        channels.set_dead(call, [dead] * len(call.shape))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Whole groups that go lower the number of groups."""
        groups, weight = call["groups"], call["weight"]
        mask = kept.mask(weight, 0)
        if groups == 1 or mask is None:
            return {}
        rows = mask.reshape(groups, -1)
        return {"groups": int(rows.any(1).sum())}

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f_in x f_out x k^2 x positions; a grouped filter reads only its own group."""
        weight, rank = call["weight"], len(shape_of(call["weight"])) - 2
        kernel = prod(shape_of(weight)[2:])
        shapes = (shape_of(value) for value in (call["input"], call.node))
        read, written = (prod(shape) // shape[-rank - 1] for shape in shapes)  # all but the channels: batch too
        return (Cost(((weight, 0), (weight, 1)), kernel * read, kernel * written, kernel * written),)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.ConvNd``."""
        weight = tensors[call["weight"]]
        groups, rank = call["groups"], weight.dim() - 2
        module = bare(
            self.modules[rank - 1], weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
            stride=_each(call["stride"], rank), padding=_each(call["padding"], rank),
            dilation=_each(call["dilation"], rank), groups=groups, bias=call["bias"] is not None,
        )  # fmt: skip
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the convolution that the module stands for."""
        assert isinstance(module, self.modules)
        overload = "padding" if isinstance(module.padding, str) else "default"
        options = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}
        rank = module.weight.dim() - 2
        return f"aten.conv{rank}d.{overload}", {**refs(module, path, "weight", "bias"), **options}


def whole_groups(weight_shape: tuple[int, ...], groups: int) -> bool:
    """Whether whole groups of a grouped convolution are removed, rather than the same channels of each group."""
    return groups >= max(weight_shape[0] // groups, weight_shape[1])


def _is_padded(call: Call) -> bool:
    padding = call["padding"]
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)


def _each(option: Any, rank: int) -> Any:
    """Return an option for each dimension: ``[1]`` stands for all."""
    if isinstance(option, str):
        return option
    values = tuple(option) if isinstance(option, list | tuple) else (option,)
    return values * rank if len(values) == 1 else values
