"""Deformable convolutions, as torchvision has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import register
from swdc.ops.call_cost import ShapeOf, Use, Work
from swdc.ops.convolution import Convolution, grouped


@register
class DeformableConvolution(Convolution):
    """A convolution that reads at positions given by offsets; offsets and mask belong to positions, not to channels.

    With several groups of offsets, the same channels of each group may be removed.
    """

    names = ("torchvision.deform_conv2d.default",)
    modules = ()
    family = "deform_conv2d"
    carries = False  # each group of offsets reads its channels at positions of its own

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Not said: torchvision's code says all."""
        return None

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple as a convolution does; keep every group of offsets."""
        for name in ("offset", "mask"):
            channels.freeze_value(call[name], call.reason("says where to read, for all channels alike"))
        inputs, groups = channels.channels(call["input"], 1), call["offset_groups"]
        if groups > 1:
            apart, _ = grouped(call, channels, groups, inputs)
            channels.freeze(
                apart, call.reason("has offsets of its own for each group", edit="use one group of offsets")
            )
        super().couple(call, channels)

    def folds(self, call: Call) -> bool:
        """False: a mask scales constants, and outside of the image there are zeros."""
        return False

    def orderless(self, call: Call) -> bool:
        """False, because each group of offsets has channels of its own."""
        return False

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """A dense layer at every position that it writes."""
        return Work.lower(self, call, shape_of)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """No module of torch.nn computes it."""
        return None

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """No module represents it."""
        raise TypeError(f"expected no module for a deformable convolution, got {type(module).__name__} at {path}")
