"""Dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import fx, nn

from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ir.groups import WRITES
from swdc.ops.affine_layers import Layer, through_weights
from swdc.ops.affine_rows import AffineRows, last_dimension
from swdc.ops.base import register
from swdc.ops.call_cost import Cost, ShapeOf
from swdc.ops.leaf_modules import adopt, bare


@register
class Linear(Layer):
    """A dense layer sums over the last dimension of its input and writes the last of its result."""

    any_order = True
    names = ("aten.linear.default",)
    modules = (nn.Linear,)
    width = "out_features"
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"out_features": ("weight", 0), "in_features": ("weight", 1)}
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the input with the weight's second dimension, and the result with its first."""
        x, weight, bias = call["input"], call["weight"], call["bias"]
        channels.contract(call, x, len(channels.sizes(x)) - 1, weight, 1, folds=True)
        out = channels.channels(weight, 0)
        channels.bind(weight, 0, out, WRITES, call)
        channels.bind(bias, 0, out, WRITES, call)
        channels.set(call, [*channels.labels(x)[:-1], out])

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Those of the input, with as many channels as the weight has rows."""
        x, weight = arguments["input"], arguments["weight"]
        fits = weight.dim() == 2 and x.shape[-1] == weight.shape[1]
        return [[*x.shape[:-1], weight.shape[0]]] if fits else None

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead row of the weight with a zero bias gives zero; so do positions of zeros, if there is no bias."""
        *positions, read = channels.dead(call["input"])
        dead = channels.dead.written(call, read, folds=True)
        channels.set_dead(call, [*through_weights(call, positions), dead])

    def folds(self, call: Call) -> bool:
        """True, because there are no borders."""
        return True

    def affine_rows(self, call: Call) -> AffineRows | None:
        """The rows of the input, along its last dimension."""
        x, weight, bias = call["input"], call["weight"], call["bias"]
        if not isinstance(x, fx.Node) or not isinstance(weight, Ref) or isinstance(bias, fx.Node):
            return None
        return AffineRows(x, weight, bias, last_dimension)

    def channels_along(self, call: Call, weight: torch.Tensor) -> int | None:
        """The last dimension."""
        return len(call.shape) - 1

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """The last size is that of the outputs."""
        x, weight = args[:2]
        if not (x.is_floating_point() and x.dim() > 0 and x.shape[-1] == weight.shape[-1]):
            return None
        return x.new_empty((*x.shape[:-1], *weight.shape[:-1]))

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f_in x f_out + f_out, at every position that the layer is applied to."""
        x, weight = call["input"], call["weight"]
        positions = tuple((x, dim) for dim in range(len(shape_of(x)) - 1))  # these may hold channels, too
        return (Cost((*positions, (weight, 0), (weight, 1)), 1, 1, 1), Cost((*positions, (weight, 0)), 1, 1, 0))

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.Linear``."""
        out_features, in_features = tensors[call["weight"]].shape
        module = bare(nn.Linear, in_features, out_features, bias=call["bias"] is not None)
        return adopt(module, call, tensors, "weight", "bias")
