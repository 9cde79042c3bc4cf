"""Bilinear layers."""

from __future__ import annotations

from typing import Any

from swdc.channels.dead_values import UNKNOWN, affine
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import WRITES
from swdc.ops.base import Operator, register
from swdc.ops.call_cost import Cost, ShapeOf


@register
class Bilinear(Operator):
    """A bilinear layer sums over the last dimensions of both inputs and writes the last of its result."""

    names = ("aten.bilinear.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the inputs with the weight's second and third dimension, and the result with its first."""
        weight, inputs = call["weight"], (call["input1"], call["input2"])
        last = len(call.shape) - 1
        for dim, x in enumerate(inputs, start=1):
            channels.contract(call, x, last, weight, dim, folds=False)
        out = channels.channels(weight, 0)
        channels.bind(weight, 0, out, WRITES, call)
        channels.bind(call["bias"], 0, out, WRITES, call)
        result: list[Any] = [
            None if one is None and other is None else channels.join(one, other, call)
            for one, other in zip(*(channels.labels(x)[:last] for x in inputs), strict=True)
        ]
        channels.set(call, [*result, out])

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead filter with a zero bias gives zero."""
        bias = call["bias"]
        dead = affine(channels.dead(call["weight"])[0], 0.0 if bias is None else channels.dead(bias)[0])
        channels.set_dead(call, [UNKNOWN] * (len(call.shape) - 1) + [dead])

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f_in1 x f_in2 x f_out + f_out, at every position that the layer is applied to."""
        x, weight = call["input1"], call["weight"]
        positions = tuple((x, dim) for dim in range(len(shape_of(x)) - 1))
        return (
            Cost((*positions, (weight, 0), (weight, 1), (weight, 2)), 1, 1, 1),
            Cost((*positions, (weight, 0)), 1, 1, 0),
        )
