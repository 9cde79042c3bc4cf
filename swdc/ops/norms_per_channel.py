"""Normalisation channel by channel: batch and instance norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from swdc.channels.dead_values import UNKNOWN, Dead, plain, product
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ir.groups import STATISTIC, WRITES, Ids
from swdc.ops import statistics
from swdc.ops.base import Affine, Leaf, Operator, Tensors, register
from swdc.ops.call_cost import Cost, ShapeOf
from swdc.ops.capture_traits import like_input
from swdc.ops.identity import Evaluation, Identity, copy_of
from swdc.ops.leaf_modules import adopt, bare, refs

_FOLDED = "linear"
"""Batch norms have no multiply-adds of their own: the optimizer of an ONNX file folds them into the layer before."""
EXACT_BATCH_NORM = "swdc.batch_norm"
_ROLES = {"weight": WRITES, "bias": WRITES, "running_mean": STATISTIC, "running_var": STATISTIC}
BATCH_NORMS: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d
}  # fmt: skip
"""The modules of batch norms by the rank of their input."""
_ROUNDING = 1e-12
"""The largest difference from 1 that the scale of an identity may have."""


def gained(call: Call, channels: Channels, dead: Dead) -> Dead:
    """Return the dead value after the optional gain and shift of a norm, given the normalised value ``dead``."""
    weight, bias = call.arguments.get("weight"), call.arguments.get("bias")
    scaled = dead if weight is None else product(dead, channels.dead(weight)[0])
    return plain(np.add(scaled, 0.0 if bias is None else channels.dead(bias)[0]))


class _ChannelNorm(Leaf):
    """A norm with separate statistics for each channel."""

    is_norm = True
    width: ClassVar[str] = "num_features"

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple parameters and statistics with the channels of the input."""
        labels = channels.labels(call["input"])
        for name, role in {**_ROLES, "running_mean": WRITES if self.means_write(call) else STATISTIC}.items():
            channels.bind(call.arguments.get(name), 0, labels[1], role, call)
        channels.set(call, [labels[1] if d == 1 else self.along(call, channels, d) for d in range(len(labels))])

    def along(self, call: Call, channels: Channels, dim: int) -> Ids | None:
        """Return the labels along a dimension other than the channels'; by default it is frozen and holds none."""
        channels.hold(call["input"], [dim], call)
        return None

    def own_statistics(self, call: Call) -> bool:
        """Whether a channel is normalised by statistics of the input, rather than by running statistics."""
        raise TypeError(f"{type(self).__name__} has to say where its statistics are from")

    def means_write(self, call: Call) -> bool:
        """Whether a mask sets running means to zero: without gains nothing else can make a channel zero."""
        return call.arguments.get("weight") is None and not self.own_statistics(call)

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant is its own mean, so it becomes zero; with running statistics the gain or the mean makes it zero.

        Where a mask sets the mean to zero, zero stays zero, and in training, too: it is the mean of the batch.
        """
        dead = channels.dead(call["input"])[1]
        if self.own_statistics(call):
            centred: Dead = np.where(np.isnan(dead), UNKNOWN, 0.0)
        elif self.means_write(call):
            centred = channels.dead.centred(dead, call["running_mean"], call["running_var"], call["eps"])
            zero = (np.asarray(dead) == 0) & (np.asarray(channels.dead(call["running_mean"])[0]) == 0)
            centred = plain(np.where(zero, channels.dead.zeroed(centred), centred))
        else:
            centred = channels.dead.centred(dead, call["running_mean"], call["running_var"], call["eps"])
        dead = gained(call, channels, centred) if call["eps"] > 0 else UNKNOWN  # a constant has no variance: 0 / 0
        channels.set_dead(call, [dead if d == 1 else UNKNOWN for d in range(len(call.shape))])


@register
class BatchNorm(_ChannelNorm):
    """Batch norm: its gain and shift write the channel again, so a mask that zeroes both gives zero."""

    any_order = True
    names: ClassVar[tuple[str, ...]] = ("aten.batch_norm.default",)
    modules: ClassVar[tuple[type[nn.Module], ...]] = (*dict.fromkeys(BATCH_NORMS.values()), nn.SyncBatchNorm)
    bases: ClassVar[tuple[type[nn.Module], ...]] = (_BatchNorm,)
    functions: ClassVar[tuple[Any, ...]] = (F.batch_norm,)
    writes_channels = True
    trains = True
    family = _FOLDED

    def own_statistics(self, call: Call) -> bool:
        """Whether a channel is normalised by statistics of the input, rather than by running statistics."""
        return bool(call["training"])

    def along(self, call: Call, channels: Channels, dim: int) -> Ids | None:
        """If statistics run over other channels (of a standardised weight), dead ones have to count as zeros."""
        x = call["input"]
        if not self.own_statistics(call) or call.arguments.get("running_mean") is not None:
            return super().along(call, channels, dim)
        labels: Ids | None = channels.labels(x)[dim]
        channels.absorb(call, labels, channels.dead(x)[dim], folds=False)
        return labels

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """The result has the form of the input, if there is a statistic for each channel."""
        x, *tensors = args[:5]
        fits = x.dim() > 1 and all(t is None or len(t) == x.shape[1] for t in tensors)
        return like_input(target, args) if fits else None

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Those of the input, if there is a statistic for each channel."""
        sizes = list(arguments["input"].shape)
        tensors = (arguments[name] for name in ("weight", "bias", "running_mean", "running_var"))
        fits = len(sizes) > 1 and all(t is None or len(t) == sizes[1] for t in tensors)
        return [sizes] if fits else None

    def completed(self, arguments: Mapping[str, Any], module: nn.Module | None) -> Mapping[str, Any]:
        """Evaluation does not show a cumulative average: torch's module passes a momentum of zero there."""
        averages = isinstance(module, _BatchNorm) and module.momentum is None and not arguments["momentum"]
        return {**arguments, "momentum": None} if averages else arguments

    def is_absorbed(self, call: Call) -> bool:
        """True: it is folded into a convolution."""
        return True

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Statistics over the kept channels keep the original divisor."""
        masks = kept.masks(call["input"])
        if all(mask is None or mask.all() for d, mask in enumerate(masks) if d != 1):
            return {}
        known = call.arguments.get("widths") or [None] * len(masks)
        sizes = [None if mask is None or d == 1 else len(mask) for d, mask in enumerate(masks)]
        widths = [size if width is None else width for width, size in zip(known, sizes, strict=True)]
        return {"operator": EXACT_BATCH_NORM, "widths": widths}

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f x positions x 2; no multiply-adds, because a batch norm folds into the layer before it."""
        x = call["input"]
        return (Cost(tuple((x, dim) for dim in range(len(shape_of(x)))), 2, 2, 0),)

    def affine(self, call: Call, tensors: Tensors) -> Affine | None:
        """With running statistics it is an affine map, if its tensors are those of the program."""
        names = [call.arguments.get(name) for name in ("running_mean", "running_var", "weight", "bias")]
        computed = any(not isinstance(name, Ref) for name in names if name is not None)
        if self.own_statistics(call) or None in names[:2] or computed:
            return None
        mean, variance, gain, shift = (None if name is None else tensors[name].detach().double() for name in names)
        assert mean is not None
        assert variance is not None
        scale = (variance + call["eps"]).rsqrt()
        scale = scale if gain is None else scale * gain
        return scale, -mean * scale if shift is None else shift - mean * scale

    def after_affine(self, call: Call, tensors: Tensors, affine: Affine) -> Affine | None:
        """The map, then the norm's own:  s' (s x + t) + t' = s' s x + (s' t + t').  The statistics stay as they are."""
        own = self.affine(call, tensors)
        if own is None:
            return None
        mean, variance = (tensors[call[name]].double() for name in ("running_mean", "running_var"))
        scale, shift = own[0] * affine[0], own[0] * affine[1] + own[1]
        return scale * (variance + call["eps"]).sqrt(), shift + mean * scale

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the affine map has scale 1 and shift 0."""
        affine = self.affine(call, evaluation.tensors)
        if affine is None or affine[0].is_meta:
            return None
        unit = bool(((affine[0] - 1).abs() <= _ROUNDING).all()) and not bool(affine[1].any())
        return copy_of(call["input"]) if unit else None

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.BatchNormNd``, or ``None`` if no module has the mode of the call."""
        tracks = call["running_mean"] is not None
        if call["training"] == tracks or not (tracks or call["weight"] is not None):
            return None
        channels = tensors[call["weight"] or call["running_mean"]].shape[0]
        module = bare(
            BATCH_NORMS[len(call.shape)], channels, eps=call["eps"], momentum=call["momentum"],
            affine=call["weight"] is not None, track_running_stats=tracks,
        )  # fmt: skip
        adopt(module, call, tensors, "weight", "bias", "running_mean", "running_var")
        if tracks:
            path = str(call["running_mean"]).rpartition(".")[0]
            seen = tensors.get(f"{path}.num_batches_tracked")
            module._buffers["num_batches_tracked"] = seen
        return module

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the evaluation-mode call that the module represents."""
        assert isinstance(module, self.modules)
        tensors = refs(module, path, "weight", "bias", "running_mean", "running_var")
        mode = {"training": not module.track_running_stats, "momentum": module.momentum, "eps": module.eps}
        return "aten.batch_norm.default", {**tensors, **mode, "cudnn_enabled": True}


@register
class ExactBatchNorm(BatchNorm):
    """Batch norm with statistics of the input, whose original sizes are ``widths``, however many channels are kept."""

    names = (EXACT_BATCH_NORM,)
    functions = ()
    modules = (statistics.BatchNorm,)
    bases = modules
    width = ""

    def own_statistics(self, call: Call) -> bool:
        """Always true."""
        return True

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``swdc.ops.statistics.BatchNorm``."""
        return adopt(statistics.BatchNorm(call["widths"], call["eps"]), call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module represents."""
        assert isinstance(module, statistics.BatchNorm)
        options = {"widths": module.widths, "eps": module.eps}
        return EXACT_BATCH_NORM, {**refs(module, path, "weight", "bias"), **options}

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the norm over the kept channels."""
        return {"operator": BatchNorm.names[0], "training": True, "momentum": 0.0, "running_mean": None,
                "running_var": None, "cudnn_enabled": True}  # fmt: skip


@register
class InstanceNorm(_ChannelNorm):
    """Instance norm: statistics of each channel of each sample, with an optional gain and shift."""

    names = ("aten.instance_norm.default",)
    modules = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    bases = (_InstanceNorm,)
    timed_as = "LayerNormalization"

    def own_statistics(self, call: Call) -> bool:
        """Whether a channel is normalised by statistics of the input, rather than by running statistics."""
        return bool(call["use_input_stats"])

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.InstanceNormNd``, or ``None`` for an instance norm with running statistics."""
        if call["running_mean"] is not None or not call["use_input_stats"]:
            return None
        cls = self.modules[len(call.shape) - 3]
        affine, width = call["weight"] is not None, call.shape[1]
        channels = tensors[call["weight"]].shape[0] if affine else width
        module = bare(cls, channels, eps=call["eps"], momentum=call["momentum"], affine=affine)
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module represents."""
        assert isinstance(module, self.modules)
        options = {"use_input_stats": True, "momentum": module.momentum, "eps": module.eps, "cudnn_enabled": True}
        return "aten.instance_norm.default", {
            **refs(module, path, "weight", "bias"), "running_mean": None, "running_var": None, **options
        }  # fmt: skip


@register
class NativeBatchNorm(Operator):
    """Batch norms as torch's exporter writes them: no program has them, but nodes of exported files name them."""

    names = (
        "aten.native_batch_norm.default", "aten._native_batch_norm_legit_no_training.default",
        "aten._batch_norm_no_update.default",
    )  # fmt: skip
    family = _FOLDED
