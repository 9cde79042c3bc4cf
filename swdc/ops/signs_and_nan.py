"""Functions that tell zeros of different signs apart, and functions that make a number of NaN."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch

from swdc.ops.base import register
from swdc.ops.dead_value_evaluation import signed
from swdc.ops.elementwise import Pointwise


@register
class OfSigns(Pointwise):
    """Functions of the sign of zero, which is not known: a mask makes ``-0.0`` of a negative number."""

    names: ClassVar[tuple[str, ...]] = (
        *(f"aten.{name}.default" for name in "signbit angle atan2 arctan2".split()),
        "aten.copysign.Tensor", "aten.copysign.Scalar",
    )  # fmt: skip

    def alternatives(self, held: torch.Tensor) -> Iterable[torch.Tensor]:
        """Zeros of either sign."""
        return signed(held)


@register
class OfNaN(Pointwise):
    """Functions that make a number of NaN, which a dead channel holds if an infinite value has met its mask."""

    names = tuple(f"aten.{name}.default" for name in "nan_to_num isnan isfinite fmax fmin".split())

    def alternatives(self, held: torch.Tensor) -> Iterable[torch.Tensor]:
        """The dead values, or NaN."""
        can_be = held.is_floating_point() or held.is_complex()
        return [held, torch.full_like(held, torch.nan)] if can_be else [held]
