"""Normalisation: batch and instance norm work channel by channel; layer and group norm mix channels."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn

from swdc import statistics
from swdc.call import Call
from swdc.channels import UNKNOWN, Channels, affine
from swdc.groups import STATISTIC, WRITES
from swdc.kept import Kept
from swdc.ops.activation import zero_only
from swdc.ops.base import Cost, Leaf, ShapeOf, freeze_result, register
from swdc.ops.leaves import adopt, bare, refs

_ROLES = {"weight": WRITES, "bias": WRITES, "running_mean": STATISTIC, "running_var": STATISTIC}


class _ChannelNorm(Leaf):
    """A norm with statistics of each channel by itself."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Everything goes with the channels of the input."""
        labels = channels.labels(call["input"])
        for name, role in _ROLES.items():
            channels.bind(call[name], 0, labels[1], role, call)
        channels.hold(call["input"], (d for d in range(len(labels)) if d != 1), call)
        channels.set(call, [None if d != 1 else labels[1] for d in range(len(labels))])


@register
class BatchNorm(_ChannelNorm):
    """Batch norm: its gain and shift write the channel again, so a mask that zeroes both gives zero."""

    names = ("aten.batch_norm.default",)
    modules = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

    def fold(self, call: Call, channels: Channels) -> None:
        """Without gain and shift a dead channel becomes -mean / deviation, which is not followed."""
        gain, shift = (UNKNOWN if call[name] is None else channels.dead(call[name])[0] for name in ("weight", "bias"))
        channels.set_dead(call, [affine(gain, shift)] * len(call.shape))

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f x positions x 2; no multiply-adds, for a batch norm folds into the layer before it."""
        x = call["input"]
        positions = 2 * prod(shape_of(x)) // shape_of(x)[1]
        return (Cost(((x, 1),), positions, positions, 0),)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.BatchNormNd``, unless the call fixes the mode to one that no module has."""
        tracks = call["running_mean"] is not None
        if call["training"] == tracks or not (tracks or call["weight"] is not None):
            return None
        rank = len(call.shape)
        cls = self.modules[{2: 0, 3: 0, 4: 1, 5: 2}[rank]]
        channels = tensors[call["weight"] or call["running_mean"]].shape[0]
        module = bare(
            cls, channels, eps=call["eps"], momentum=call["momentum"], affine=call["weight"] is not None,
            track_running_stats=tracks,
        )  # fmt: skip
        adopt(module, call, tensors, "weight", "bias", "running_mean", "running_var")
        if tracks:
            path = str(call["running_mean"]).rpartition(".")[0]
            seen = tensors.get(f"{path}.num_batches_tracked")
            module._buffers["num_batches_tracked"] = seen
        return module

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the evaluation-mode call that the module stands for."""
        assert isinstance(module, self.modules)
        tensors = refs(module, path, "weight", "bias", "running_mean", "running_var")
        mode = {"training": not module.track_running_stats, "momentum": module.momentum, "eps": module.eps}
        return "aten.batch_norm.default", {**tensors, **mode, "cudnn_enabled": True}


@register
class InstanceNorm(_ChannelNorm):
    """Instance norm: statistics of each channel of each sample, with an optional gain and shift."""

    names = ("aten.instance_norm.default",)
    modules = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant channel is its own mean, so it becomes zero."""
        plain = call["use_input_stats"] and (call["weight"] is None) == (call["bias"] is None)
        channels.set_dead(call, [0.0 if plain else UNKNOWN] * len(call.shape))

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.InstanceNormNd`` for one without running statistics."""
        if call["running_mean"] is not None or not call["use_input_stats"]:
            return None
        cls = self.modules[len(call.shape) - 3]
        affine, width = call["weight"] is not None, call.shape[1]
        channels = tensors[call["weight"]].shape[0] if affine else width
        module = bare(cls, channels, eps=call["eps"], momentum=call["momentum"], affine=affine)
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        assert isinstance(module, self.modules)
        options = {"use_input_stats": True, "momentum": module.momentum, "eps": module.eps, "cudnn_enabled": True}
        return "aten.instance_norm.default", {
            **refs(module, path, "weight", "bias"), "running_mean": None, "running_var": None, **options
        }  # fmt: skip


@register
class LayerNorm(Leaf):
    """Layer norm: a dead channel is a zero among those that its statistics run over, and stays in their divisor."""

    names: ClassVar[tuple[str, ...]] = ("aten.layer_norm.default",)
    modules: ClassVar[tuple[type[nn.Module], ...]] = (nn.LayerNorm,)

    def couple(self, call: Call, channels: Channels) -> None:
        """Gain and shift go with the channels that are normalised; a dead one has to be zero."""
        x, first = call["input"], _first_normalised(call)
        labels, dead = channels.labels(x), channels.dead(x)
        for dim in range(first, len(labels)):
            channels.absorb(call, labels[dim], dead[dim], folds=False)
            for name in ("weight", "bias"):
                channels.bind(call.arguments.get(name), dim - first, labels[dim], WRITES, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead channel is as far from the mean as any zero is, so that the gain has to make it zero.

        Where no shift is added, a sample of nothing but zeros stays one.
        """
        weight, bias = (call.arguments.get(name) for name in ("weight", "bias"))
        first = _first_normalised(call)
        before = [UNKNOWN if bias is not None else zero_only(dead) for dead in channels.dead(call["input"])[:first]]
        rank = len(call.shape)
        gains = [UNKNOWN] * (rank - first) if weight is None else channels.dead(weight)
        shifts = [0.0] * (rank - first) if bias is None else channels.dead(bias)
        channels.set_dead(call, [*before, *map(affine, gains, shifts)])

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The norm over what is left keeps the original divisor."""
        masks = (kept.mask(call["input"], dim) for dim in range(_first_normalised(call), len(call.shape)))
        return {"operator": EXACT_LAYER_NORM} if any(mask is not None and not mask.all() for mask in masks) else {}

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.LayerNorm``."""
        affine = call["weight"] is not None
        module = bare(
            nn.LayerNorm, list(call["normalized_shape"]), eps=call["eps"], elementwise_affine=affine,
            bias=call["bias"] is not None,
        )  # fmt: skip
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        assert isinstance(module, nn.LayerNorm)
        options = {"normalized_shape": list(module.normalized_shape), "eps": module.eps, "cudnn_enable": True}
        return "aten.layer_norm.default", {**refs(module, path, "weight", "bias"), **options}


EXACT_LAYER_NORM = "swdc.layer_norm"


@register
class ExactLayerNorm(LayerNorm):
    """Layer norm with the divisor of the sizes in ``normalized_shape``, however many of them are left."""

    names = (EXACT_LAYER_NORM,)
    modules = (statistics.LayerNorm,)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The divisor stays."""
        return {}

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``swdc.statistics.LayerNorm``."""
        module = statistics.LayerNorm(call["normalized_shape"], call["eps"])
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        assert isinstance(module, statistics.LayerNorm)
        options = {"normalized_shape": list(module.normalized_shape), "eps": module.eps}
        return EXACT_LAYER_NORM, {**refs(module, path, "weight", "bias"), **options}


def _first_normalised(call: Call) -> int:
    """Return the first of the trailing dimensions that a call normalises."""
    return len(call.shape) - len(call["normalized_shape"])


class _MixingNorm(Leaf):
    """A norm whose statistics run over the channels: removing one would change the divisor for all others."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze what the statistics run over."""
        reason = call.reason("its statistics run over the channels, so removing one changes all others")
        for value in call.tensors():
            channels.freeze_value(value, reason)
        channels.set(call, freeze_result(call, channels, reason))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Nothing that it reads is ever removed."""
        return {}


@register
class GroupNorm(_MixingNorm):
    """Group norm."""

    names = ("aten.group_norm.default",)
    modules = (nn.GroupNorm,)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.GroupNorm``."""
        affine, width = call["weight"] is not None, call.shape[1]
        module = bare(nn.GroupNorm, call["num_groups"], int(width), eps=call["eps"], affine=affine)
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        assert isinstance(module, nn.GroupNorm)
        options = {"num_groups": module.num_groups, "eps": module.eps, "cudnn_enabled": True}
        return "aten.group_norm.default", {**refs(module, path, "weight", "bias"), **options}
