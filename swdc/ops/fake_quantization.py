"""Fake quantisation: values are rounded to the grid that integers would have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import STATISTIC
from swdc.ops.base import Operator, register
from swdc.ops.capture_traits import like_input
from swdc.ops.special_activations import zero_only


@register
class FakeQuantization(Operator):
    """One grid for all values, or one for each channel along an axis.

    Torch demands that a zero point of whole numbers lies on the grid, so that zero stays zero.
    """

    names = ("aten.fake_quantize_per_tensor_affine.default", "aten.fake_quantize_per_channel_affine.default")
    any_order = True
    narrow = ("scale",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Scales and zero points go with their channels; a mask leaves them, because a grid of step zero is none."""
        labels = channels.labels(call["self"])
        for name in ("scale", "zero_point") if "axis" in call.arguments else ():
            channels.bind(call[name], 0, labels[call["axis"]], STATISTIC, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero, unless zero points have fractions."""
        if "axis" not in call.arguments or not channels.dtype(call["zero_point"]).is_floating_point:
            channels.set_dead(call, [zero_only(dead) for dead in channels.dead(call["self"])])

    def empty_result(self, target: Any, args: Sequence[Any]) -> torch.Tensor | None:
        """A tensor like the input; torch has no kernel for tensors without values."""
        return like_input(target, args)
