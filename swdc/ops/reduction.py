"""Sums, means, variances and other statistics over dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Ids
from swdc.ops import statistics
from swdc.ops.base import Leaf, Operator, name_of, register
from swdc.ops.leaf_modules import adopt
from swdc.ops.special_activations import zero_only


def reduced(call: Call, rank: int) -> set[int]:
    """Return the dimensions that a call reduces; all if it names none."""
    dims = call.arguments.get("dim")
    if dims is None or dims == []:
        return set(range(rank))
    return {d % rank for d in (dims if isinstance(dims, list | tuple) else [dims])}


def remaining(call: Call, values: list[Any], over: set[int]) -> list[Any]:
    """Return the entries of the result's dimensions, given those of the input's."""
    if call.arguments.get("keepdim"):
        return [None if d in over else v for d, v in enumerate(values)]
    return [v for d, v in enumerate(values) if d not in over]


KEEP_ZERO = (
    "let what comes before keep zero: ReLU or SiLU, not a sigmoid; batch norms with affine=True; bias=False in layers "
    "along another dimension, such as tokens"
)


def needs_zero(call: Call, channels: Channels, labels: Ids | None, dead: Dead) -> None:
    """Freeze the channels that a statistic runs over, except those that are zero when dead."""
    if labels is None:
        return
    other = np.broadcast_to(np.asarray(dead) != 0, labels.shape)
    text = "its statistic runs over the channel, which is not zero when dead"
    channels.freeze(labels[other], call.reason(text, edit=KEEP_ZERO))


class Reduction(Operator):
    """Statistics along some dimensions; the channels of all others pass."""

    exact: ClassVar[str] = ""
    """The variant that knows the original sizes, for statistics that depend on the number of zeros."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels that the statistic runs over end here; those that are not zero when dead are frozen."""
        labels, dead = channels.labels(call["self"]), channels.dead(call["self"])
        over = reduced(call, len(labels))
        if self.exact and call.arguments.get("dtype") is not None:
            edit = "cast the value first, then take the statistic"
            reason = call.reason("computes a statistic in another type than its input's", edit)
            for dim in over:
                channels.freeze(labels[dim], reason)
        for dim in over:
            needs_zero(call, channels, labels[dim], dead[dim])
            channels.ungained(labels[dim])  # this may be a norm that is written out
        passing = remaining(call, labels, over)
        channels.set(call, [passing] * len(call.shape) if has_several(call) else passing)

    def fold(self, call: Call, channels: Channels) -> None:
        """Set the dead values of the channels that pass."""
        dead = channels.dead(call["self"])
        passing = [UNKNOWN if d is None else d for d in remaining(call, list(dead), reduced(call, len(dead)))]
        channels.set_dead(call, self.constants(passing, len(call.shape) if has_several(call) else 0))

    def constants(self, dead: list[Dead], results: int) -> list[Any]:
        """Return the statistics of dead channels: by default zero for zero, else unknown.

        ``dead`` are the dead values along the dimensions that pass; ``results`` is the number of results of an
        operator with several results, each of which gets a list of its own.
        """
        own = [zero_only(d) for d in dead]
        return [own] * results if results else own

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """If channels that the statistic runs over are removed, it has to know their original number."""
        return exactly(call, kept, self.exact) if self.exact else {}


def has_several(call: Call) -> bool:
    """Whether a call returns several tensors."""
    shape: Any = call.node.meta.get(SHAPE)
    return bool(shape) and isinstance(shape[0], tuple)


def exactly(call: Call, kept: Kept, operator: str) -> dict[str, Any]:
    """Return the arguments of the statistic that knows the original sizes; empty if it loses no channels."""
    masks = kept.masks(call["self"])
    over = reduced(call, len(masks))
    if all(masks[d] is None or masks[d].all() for d in over):  # type: ignore[union-attr]
        return {}
    known = call.arguments.get("widths") or [None] * len(masks)
    sizes = [None if mask is None or d not in over else len(mask) for d, mask in enumerate(masks)]
    return {
        "operator": operator,
        "dim": sorted(over),
        "keepdim": bool(call.arguments.get("keepdim")),
        "widths": [size if width is None else width for width, size in zip(known, sizes, strict=True)],
    }


class Exact(Leaf):
    """A statistic or a norm with the divisor of the original sizes, however many channels are kept."""

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return the module of ``swdc.ops.statistics``."""
        module = self.modules[0](**{name: call[name] for name in self.options})
        return adopt(module, call, tensors, *self.tensors)


class ExactStatistic(Exact):
    """A statistic with the divisor of the original sizes in ``widths``."""

    data = "self"
    tensors = ()
    options: ClassVar[tuple[str, ...]] = ("dim", "keepdim", "widths")


@register
class Sum(Reduction):
    """Sums and norms: a zero adds nothing."""

    names = (
        *(f"aten.{name}" for name in ("sum.dim_IntList", "sum.default", "nansum.default")),
        *(f"aten.count_nonzero.{overload}" for overload in ("default", "dim_IntList")),
        *(f"aten.any.{overload}" for overload in ("default", "dim", "dims")),
    )


@register
class VectorNorm(Reduction):
    """Norms of vectors: if the order is at least zero (the maximum has order inf), zeros change nothing."""

    names = (
        *(f"aten.linalg_{name}.default" for name in ("vector_norm", "norm")),
        *(f"aten.{name}" for name in ("norm.Scalar", "norm.ScalarOpt_dim", "frobenius_norm.dim")),
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels of norms of negative order, which zeros change, and of norms of matrices."""
        order = call.arguments.get("ord", call.arguments.get("p"))
        of_vectors = call.operator != "aten.linalg_norm.default" or len(call["dim"] or ()) == 1
        if order is not None and (order < 0 or not of_vectors):
            hold_over(call, channels)
        super().couple(call, channels)


@register
class Mean(Reduction):
    """Means: dead channels are zeros that stay in the divisor."""

    any_order = True
    names: ClassVar[tuple[str, ...]] = ("aten.mean.dim", "aten.mean.default")
    exact = "swdc.mean"

    def constants(self, dead: list[Dead], results: int) -> list[Any]:
        """The mean of a constant is that constant."""
        return dead


@register
class ExactMean(ExactStatistic, Mean):
    """The mean with its original divisor."""

    names = ("swdc.mean",)
    modules = (statistics.Mean,)

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the mean over the kept channels."""
        return {"operator": "aten.mean.dim"}


@register
class Variance(Reduction):
    """Variances and standard deviations: dead channels are zeros among the values."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{kind}.{overload}" for kind in ("var", "std") for overload in ("default", "dim", "correction")
    )
    exact = "swdc.variance"

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels of complex numbers, whose variance is not the mean of squares."""
        if channels.dtype(call["self"]).is_complex:
            hold_over(call, channels)
        super().couple(call, channels)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Give the options of all overloads in one form."""
        changes = super().resize(call, kept)
        return {**changes, "correction": _correction(call), "root": _is_root(call)} if changes else {}


@register
class ExactVariance(ExactStatistic, Variance):
    """The variance or standard deviation with its original divisor."""

    names = ("swdc.variance",)
    modules = (statistics.Variance,)
    options = (*ExactStatistic.options, "correction", "root")

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the variance or standard deviation over the kept channels."""
        return {"operator": "aten.std.correction" if call["root"] else "aten.var.correction"}


@register
class VarianceAndMean(Variance):
    """Variance or standard deviation, and mean."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{kind}_mean.{overload}" for kind in ("var", "std") for overload in ("default", "dim", "correction")
    )
    exact = "swdc.variance_and_mean"

    def constants(self, dead: list[Dead], results: int) -> list[Any]:
        """The mean of a constant is that constant."""
        return [[zero_only(d) for d in dead], dead]


@register
class ExactVarianceAndMean(ExactStatistic, VarianceAndMean):
    """Both with their original divisor."""

    names = ("swdc.variance_and_mean",)
    modules = (statistics.VarianceAndMean,)
    options = (*ExactStatistic.options, "correction", "root")

    def relax(self, call: Call) -> dict[str, Any]:
        """Return both over the kept channels."""
        return {"operator": "aten.std_mean.correction" if call["root"] else "aten.var_mean.correction"}


def _correction(call: Call) -> float:
    """Return the number that is subtracted from the divisor."""
    if "unbiased" in call.arguments:
        return 1.0 if call["unbiased"] else 0.0
    return 1.0 if call["correction"] is None else float(call["correction"])


def _is_root(call: Call) -> bool:
    """Whether the call computes the root of the variance."""
    return bool(call.arguments.get("root", "aten.std" in call.operator))


def hold_over(call: Call, channels: Channels) -> None:
    """Freeze the channels that a statistic runs over."""
    labels = channels.labels(call["self"])
    for dim in reduced(call, len(labels)):
        channels.freeze(labels[dim], call.reason("a statistic over the channels, which depends on how many there are"))


@register
class Choice(Reduction):
    """Statistics that depend on every value or its position, zeros included: none of their channels can be removed."""

    names = tuple(
        f"aten.{name}"
        for name in (
            "argmax.default argmin.default median.default median.dim nanmedian.default nanmedian.dim mode.default "
            "nanmean.default prod.default prod.dim_int "
            "logsumexp.default all.default all.dim all.dims aminmax.default"
        ).split()
    )

    def selects(self, target: Any, arguments: Mapping[str, Any]) -> tuple[int | None, bool] | None:
        """One value, if the result is its place."""
        name = name_of(target)
        return (1, "max" in name) if name in ("aten.argmax.default", "aten.argmin.default") else None

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels that the statistic runs over."""
        hold_over(call, channels)
        super().couple(call, channels)

    def constants(self, dead: list[Dead], results: int) -> list[Any]:
        """All results are unknown."""
        own: list[Dead] = [UNKNOWN] * len(dead)
        return [own] * results if results else own
