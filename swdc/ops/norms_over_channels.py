"""Normalisation over channels: layer, RMS and group norm.

Their statistics run over the channels, including dead ones, which are zeros. If channels are removed, the kept channels
are normalised by the statistic over all original ones (``swdc.ops.statistics``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from swdc.channels.dead_values import UNKNOWN, affine
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import WRITES, Ids
from swdc.ops import statistics
from swdc.ops.base import Leaf, Operator, register
from swdc.ops.capture_traits import like_input
from swdc.ops.leaf_modules import adopt, bare
from swdc.ops.norms_per_channel import gained
from swdc.ops.reduction import Exact, needs_zero
from swdc.ops.special_activations import zero_only

EXACT_LAYER_NORM = "swdc.layer_norm"
EXACT_RMS_NORM = "swdc.rms_norm"
EXACT_GROUP_NORM = "swdc.group_norm"


class _TrailingNorm(Leaf):
    """A norm over the trailing dimensions, of the sizes in ``normalized_shape``."""

    exact: ClassVar[str]
    """The norm that keeps the original divisor."""
    options = ("normalized_shape", "eps")
    repeats = True
    is_norm = True
    timed_as = "LayerNormalization"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple gain and shift with the normalised channels; a dead channel has to be zero."""
        x, first = call["input"], _first_normalised(call)
        labels, dead = channels.labels(x), channels.dead(x)
        for dim in range(first, len(labels)):
            needs_zero(call, channels, labels[dim], dead[dim])
            for name in ("weight", "bias"):
                channels.bind(call.arguments.get(name), dim - first, labels[dim], WRITES, call)
            if call.arguments.get("weight") is None:
                channels.ungained(labels[dim])
        channels.set(call, labels)

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Those of the input."""
        sizes, normalised = list(arguments["input"].shape), list(arguments["normalized_shape"])
        return [sizes] if sizes[-len(normalised) :] == normalised else None

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The norm over the kept channels keeps the original divisor."""
        masks = (kept.mask(call["input"], dim) for dim in range(_first_normalised(call), len(call.shape)))
        return {"operator": self.exact} if any(mask is not None and not mask.all() for mask in masks) else {}

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module represents, with the sizes in a list, as in a call."""
        name, arguments = super().arguments(module, path)
        return name, {**arguments, "normalized_shape": list(arguments["normalized_shape"])}


@register
class LayerNorm(_TrailingNorm):
    """Layer norm."""

    names: ClassVar[tuple[str, ...]] = ("aten.layer_norm.default",)
    modules: ClassVar[tuple[type[nn.Module], ...]] = (nn.LayerNorm,)
    fixed: ClassVar[Mapping[str, Any]] = {"cudnn_enable": True}
    exact = EXACT_LAYER_NORM

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead channel differs from the mean, as any zero may, so only a zero gain makes it constant.

        If there is no shift, a sample of zeros stays zero.
        """
        weight, bias = call["weight"], call["bias"]
        first, rank = _first_normalised(call), len(call.shape)
        stays = bias is None and call["eps"] > 0
        before = [zero_only(dead) if stays else UNKNOWN for dead in channels.dead(call["input"])[:first]]
        gains = [UNKNOWN] * (rank - first) if weight is None else channels.dead(weight)
        shifts = [0.0] * (rank - first) if bias is None else channels.dead(bias)
        channels.set_dead(call, [*before, *map(affine, gains, shifts)])

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """The result has the form of the input, if the sizes agree."""
        x, shape = args[0], list(args[1])
        return like_input(target, args) if list(x.shape[x.dim() - len(shape) :]) == shape else None

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.LayerNorm``."""
        affine = call["weight"] is not None
        module = bare(
            nn.LayerNorm, list(call["normalized_shape"]), eps=call["eps"], elementwise_affine=affine,
            bias=call["bias"] is not None,
        )  # fmt: skip
        return adopt(module, call, tensors, "weight", "bias")


@register
class ExactLayerNorm(Exact, LayerNorm):
    """Layer norm with the divisor of the original sizes in ``normalized_shape``, however many channels are kept."""

    names = (EXACT_LAYER_NORM,)
    modules = (statistics.LayerNorm,)
    fixed: ClassVar[Mapping[str, Any]] = {}

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the norm over the kept channels."""
        return {"operator": LayerNorm.names[0], "normalized_shape": list(call.shape[_first_normalised(call) :])}


@register
class RMSNorm(_TrailingNorm):
    """RMS norm: nothing is subtracted, so zero stays zero."""

    names: ClassVar[tuple[str, ...]] = ("aten.rms_norm.default",)
    modules: ClassVar[tuple[type[nn.Module], ...]] = (nn.RMSNorm,)
    tensors = ("weight",)
    exact = EXACT_RMS_NORM

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero, with or without a gain; without eps, a sample of zeros is not defined."""
        first, defined = _first_normalised(call), call["eps"] is None or call["eps"] > 0
        dead = [zero_only(dead) for dead in channels.dead(call["input"])]
        channels.set_dead(call, [UNKNOWN if d < first and not defined else value for d, value in enumerate(dead)])

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.RMSNorm``."""
        affine = call["weight"] is not None
        module = bare(nn.RMSNorm, list(call["normalized_shape"]), eps=call["eps"], elementwise_affine=affine)
        return adopt(module, call, tensors, "weight")


@register
class ExactRMSNorm(Exact, RMSNorm):
    """RMS norm with the divisor of the original sizes in ``normalized_shape``, however many channels are kept."""

    names = (EXACT_RMS_NORM,)
    modules = (statistics.RMSNorm,)

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the norm over the kept channels."""
        return {"operator": RMSNorm.names[0], "normalized_shape": list(call.shape[_first_normalised(call) :])}


@register
class GroupNorm(Leaf):
    """Group norm.

    Either whole groups are removed (if there are at least as many groups as channels in each), or the same channels of
    every group.
    """

    names: ClassVar[tuple[str, ...]] = ("aten.group_norm.default",)
    modules: ClassVar[tuple[type[nn.Module], ...]] = (nn.GroupNorm,)
    options: ClassVar[tuple[str, ...]] = ("num_groups", "eps")
    fixed: ClassVar[Mapping[str, Any]] = {"cudnn_enabled": True}
    is_norm = True
    timed_as = "LayerNormalization"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple gain and shift with the channels; in a group that stays, a dead channel has to be zero."""
        x, groups = call["input"], call["num_groups"]
        ids, dead = channels.labels(x)[1], channels.dead(x)[1]
        for name in ("weight", "bias"):
            channels.bind(call[name], 0, ids, WRITES, call)
        channels.hold(x, (d for d in range(len(call.shape)) if d != 1), call)
        if ids is not None and _whole_groups(ids, groups):
            self._join(call, channels, ids.reshape(groups, -1).T)
        elif ids is not None:
            self._join(call, channels, ids.reshape(groups, -1))
            needs_zero(call, channels, ids, dead)
            if call["weight"] is None:
                channels.ungained(ids)
        channels.set(call, [ids if d == 1 else None for d in range(len(call.shape))])

    def _join(self, call: Call, channels: Channels, rows: Ids) -> None:
        for row in rows[1:]:
            channels.join(rows[0], row, call)

    def fold(self, call: Call, channels: Channels) -> None:
        """A group of zeros stays zero; in a group that stays, the gain makes a dead channel zero."""
        ids = channels.labels(call["input"])[1]
        whole = ids is not None and _whole_groups(ids, call["num_groups"])
        dead = zero_only(channels.dead(call["input"])[1]) if whole else UNKNOWN
        dead = gained(call, channels, dead) if call["eps"] > 0 or not whole else UNKNOWN
        channels.set_dead(call, [dead if d == 1 else UNKNOWN for d in range(len(call.shape))])

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """The result has the form of the input, if the number of groups divides its channels."""
        x, groups = args[:2]
        return like_input(target, args) if x.dim() > 1 and x.shape[1] % groups == 0 else None

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Removed groups lower the number of groups; channels removed from every group stay in the divisor."""
        mask = kept.mask(call["input"], 1)
        if mask is None or mask.all():
            return {}
        rows = mask.reshape(call["num_groups"], -1)
        fewer = {"num_groups": int(rows.any(1).sum())}
        if rows[rows.any(1)].all():
            return fewer
        return {"operator": EXACT_GROUP_NORM, "group_width": call.arguments.get("group_width", rows.shape[1]), **fewer}

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.GroupNorm``."""
        affine, width = call["weight"] is not None, call.shape[1]
        module = bare(nn.GroupNorm, call["num_groups"], int(width), eps=call["eps"], affine=affine)
        return adopt(module, call, tensors, "weight", "bias")


@register
class ExactGroupNorm(Exact, GroupNorm):
    """Group norm with the divisor of ``group_width`` channels per group, however many of them are kept."""

    names = (EXACT_GROUP_NORM,)
    modules = (statistics.GroupNorm,)
    options = ("num_groups", "group_width", "eps")
    fixed: ClassVar[Mapping[str, Any]] = {}

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the norm over the kept channels."""
        return {"operator": GroupNorm.names[0]}


@register
class NativeNorm(Operator):
    """Norms that also return their statistics, which no module of torch.nn calls: all channels are frozen."""

    names = ("aten.native_layer_norm.default", "aten.native_group_norm.default")
    timed_as = "LayerNormalization"


def _first_normalised(call: Call) -> int:
    """Return the first of the trailing dimensions that a call normalises."""
    return len(call.shape) - len(call["normalized_shape"])


def _whole_groups(ids: Ids, groups: int) -> bool:
    """Whether whole groups are removed, rather than the same channels of each group."""
    return bool(groups >= len(ids) // groups)
