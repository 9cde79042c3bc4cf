"""Fake quantisation: values are rounded to the grid that integers would have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ir.groups import STATISTIC
from swdc.ops.base import Operator, register
from swdc.ops.capture_traits import like_input
from swdc.ops.special_activations import zero_only


@register
class FakeQuantization(Operator):
    """One grid for all values, or one for each channel along an axis.

    Torch demands that a zero point of whole numbers lies on the grid, so that zero stays zero.
    """

    names: ClassVar[tuple[str, ...]] = (
        "aten.fake_quantize_per_channel_affine.default", "aten.fake_quantize_per_tensor_affine.default",
    )  # fmt: skip
    functions: ClassVar[tuple[Any, ...]] = (torch.fake_quantize_per_channel_affine,)
    any_order = True
    narrow = ("scale",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Scales and zero points go with their channels; a mask leaves them, because a grid of step zero is none."""
        labels = channels.labels(call["self"])
        for name in ("scale", "zero_point") if "axis" in call.arguments else ():
            channels.bind(call[name], 0, labels[call["axis"]], STATISTIC, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero if zero points lie on the grid."""
        if self.on_grid(call, channels):
            channels.set_dead(call, [zero_only(dead) for dead in channels.dead(call["self"])])

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Scale, round, keep within the grid, and scale back."""
        return rounded_to_grid

    def on_grid(self, call: Call, channels: Channels) -> bool:
        """Whether zero points lie on the grid: they do unless they have fractions."""
        return "axis" not in call.arguments or not channels.dtype(call["zero_point"]).is_floating_point

    def empty_result(self, target: Any, args: Sequence[Any]) -> torch.Tensor | None:
        """A tensor like the input; torch has no kernel for tensors without values."""
        return like_input(target, args)


@register
class LearntFakeQuantization(FakeQuantization):
    """A grid that is learnt: torch rounds its zero points, and moves them onto the grid."""

    names = (
        "aten._fake_quantize_learnable_per_tensor_affine.default",
        "aten._fake_quantize_learnable_per_channel_affine.default",
    )

    functions = ()

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """The zero point is rounded and moved first."""
        return rounded_to_learnt_grid

    def on_grid(self, call: Call, channels: Channels) -> bool:
        """Always true."""
        return True


@register
class HeldFakeQuantization(FakeQuantization):
    """A grid that tensors hold; torch does not check where the zero point lies."""

    names = ("aten.fake_quantize_per_tensor_affine.tensor_qparams",)

    functions = ()

    def on_grid(self, call: Call, channels: Channels) -> bool:
        """Whether the model holds the zero point, and it is a whole number on the grid."""
        name = call["zero_point"]
        held = channels.dead.tensors[name] if isinstance(name, Ref) else None
        if held is None or held.is_meta or held.is_floating_point():
            return False
        return bool(((held >= call["quant_min"]) & (held <= call["quant_max"])).all())


def rounded_to_grid(
    self: torch.Tensor,
    scale: torch.Tensor | float,
    zero_point: torch.Tensor | int,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
) -> torch.Tensor:
    """Return values on the grid of integers from ``quant_min`` to ``quant_max``, scaled; halves go to even numbers.

    ``scale`` and ``zero_point`` are for all values, or for each index along ``axis``.
    """
    step = scale if isinstance(scale, torch.Tensor) else torch.full((), scale, dtype=self.dtype)
    zero = zero_point if isinstance(zero_point, torch.Tensor) else torch.full((), zero_point, dtype=torch.int32)
    if axis is not None:
        step, zero = (one.reshape([-1 if d == axis else 1 for d in range(self.dim())]) for one in (step, zero))
    has_fraction = zero.is_floating_point()
    scaled, zero = self * step.reciprocal(), zero.to(self.dtype)
    index = (scaled + zero).round() if has_fraction else scaled.round() + zero
    return (index.clamp(quant_min, quant_max) - zero) * step


def rounded_to_learnt_grid(
    self: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    grad_factor: float = 1.0,
) -> torch.Tensor:
    """Return values on a grid whose zero point is rounded, and moved onto the grid, as ``rounded_to_grid`` does."""
    zero = zero_point.round().clamp(quant_min, quant_max).to(torch.int32)
    return rounded_to_grid(self, scale, zero, quant_min, quant_max, axis)
