"""Regions of feature maps, as detectors use them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from swdc.ir.call import Call
from swdc.ops.along_positions import AlongPositions
from swdc.ops.base import register
from swdc.ops.sorting import Counting


@register
class RegionPooling(AlongPositions):
    """Feature maps sampled in boxes given by the data: every channel passes; values outside count as zero."""

    names = ("torchvision.roi_align.default", "torchvision.roi_pool.default")
    data = "input"

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The images and their positions."""
        return (0, 2, 3)


@register
class WholeRegions(Counting):
    """Pooling where each position has channels of its own."""

    names = ("torchvision.ps_roi_align.default", "torchvision.ps_roi_pool.default")


@register
class Suppression(Counting):
    """The boxes that remain after overlapping ones are suppressed; their number depends on the data."""

    names = ("torchvision.nms.default",)
    finds = True

    def found_nowhere(self, args: Sequence[Any]) -> list[Any]:
        """Pass no boxes."""
        boxes, scores, *rest = args
        return [boxes[:0], scores[:0], *rest]
