"""Resampling: up and down along positions, from a grid, and between channels and positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import Ids
from swdc.ops.base import Operator, register
from swdc.ops.block_labels import merged, merged_dead, spread, spread_dead
from swdc.ops.creation import evenly_spaced
from swdc.ops.pooling import OverPositions
from swdc.ops.special_activations import zero_only

_KINDS = (
    *(f"{kind}{n}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)),
    "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa",
)  # fmt: skip


@register
class Interpolation(OverPositions):
    """Interpolation: its weights sum to one, so a constant feature map stays the same."""

    names = tuple(f"aten.{kind}.{overload}" for kind in _KINDS for overload in ("vec", "default"))

    def leaves_alone(self, arguments: Mapping[str, Any]) -> bool:
        """A resize to the same size does nothing, unless scales of its own say where to read."""
        return all(value is None for name, value in arguments.items() if name.startswith("scale"))

    def spatial(self, call: Call) -> int:
        """All dimensions after the batch and the channels."""
        return len(call.shape) - 2


@register
class GridSample(Operator):
    """Sampling at the points of a grid: every channel passes on its own, and all share the grid."""

    names = ("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass; positions and the grid hold none."""
        x = call["input"]
        labels = channels.labels(x)
        channels.freeze_value(call["grid"], call.reason("holds points, not channels"))
        channels.hold(x, (d for d in range(len(labels)) if d != 1), call)
        channels.set(call, [ids if d == 1 else None for d, ids in enumerate(labels)])

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero; another constant stays the same unless there are zeros outside of the image."""
        dead = channels.dead(call["input"])
        channels.set_dead(call, [zero_only(d) for d in dead] if call["padding_mode"] == 0 else dead)


@register
class AffineGrid(Operator):
    """The points of an affine grid: coordinates, not channels."""

    names = ("aten.affine_grid_generator.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the matrix; the number of channels in the given size does not matter."""
        channels.freeze_value(call["theta"], call.reason("holds the coefficients of an affine map"))
        channels.set(call, [None] * len(call.shape))

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Exporters fix the sizes."""
        return _affine_grid


def _affine_grid(theta: Any, size: Sequence[Any], align_corners: bool) -> Any:
    """Map the centres of all positions, in coordinates from -1 to 1; that of columns is the first of a point."""
    spatial = size[2:]
    ends = [torch.sym_min(length - 1, 1) if align_corners else (length - 1) / length for length in spatial]
    options = {"dtype": theta.dtype, "device": theta.device}
    lines = [evenly_spaced(-end, end, length, **options) for end, length in zip(ends, spatial, strict=True)]
    columns = torch.meshgrid(*lines, indexing="ij")[::-1]
    points = torch.stack([*columns, torch.ones_like(columns[0])], -1).reshape(-1, len(columns) + 1)
    return (points @ theta.transpose(1, 2)).reshape(size[0], *spatial, len(columns))


@register
class PixelShuffle(Operator):
    """Blocks of r x r channels become positions; the channels of a block are coupled."""

    names = ("aten.pixel_shuffle.default",)
    timed_as: ClassVar[str] = "Transpose"
    factor = "upscale_factor"

    def size(self, call: Call) -> int:
        """Return how many channels make a block."""
        return int(call[self.factor]) ** 2

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass block by block; positions hold none."""
        x = call["self"]
        labels: list[Any] = channels.labels(x)
        channels.hold(x, (len(labels) - 2, len(labels) - 1), call)
        labels[-3:] = [self.move(call, channels, labels[-3]), None, None]
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """A block whose channels share a constant keeps it."""
        dead = channels.dead(call["self"])
        channels.set_dead(call, [*dead[:-3], self.move_dead(call, dead[-3]), UNKNOWN, UNKNOWN])

    def move(self, call: Call, channels: Channels, labels: Ids | None) -> Ids | None:
        """Return the labels of the result's channels."""
        return merged(call, channels, labels, self.size(call))

    def move_dead(self, call: Call, dead: Dead) -> Dead:
        """Return the dead values of the result's channels."""
        return merged_dead(dead, self.size(call))


@register
class PixelUnshuffle(PixelShuffle):
    """Blocks of r x r positions become channels, which are coupled."""

    names = ("aten.pixel_unshuffle.default",)
    timed_as = "Add"
    factor = "downscale_factor"

    def move(self, call: Call, channels: Channels, labels: Ids | None) -> Ids | None:
        """Return the label of each channel, repeated for its block."""
        return spread(labels, self.size(call))

    def move_dead(self, call: Call, dead: Dead) -> Dead:
        """Return the dead value of each channel, repeated for its block."""
        return spread_dead(dead, self.size(call))


@register
class ChannelShuffle(Operator):
    """Channels of several groups interleaved: either whole groups are removed, or the same channels of each."""

    names = ("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Transpose the table of groups and channels; their uses decide which side loses channels."""
        x = call["self"]
        labels: list[Any] = channels.labels(x)
        if labels[1] is not None:
            table = labels[1].reshape(call["groups"], -1)
            channels.factor(table, call)
            labels[1] = table.T.ravel()
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Interleave the dead values as well."""
        dead = channels.dead(call["self"])
        if not isinstance(dead[1], float):
            dead[1] = dead[1].reshape(call["groups"], -1).T.ravel()
        channels.set_dead(call, dead)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The number of groups falls by the groups that are removed."""
        mask = kept.mask(call["self"], 1)
        return {} if mask is None else {"groups": int(mask.reshape(call["groups"], -1).any(1).sum())}
