"""Convolutions in one, two and three dimensions, with groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx, nn

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ir.graph import SHAPE
from swdc.ir.groups import READS, WRITES, Ids
from swdc.ops.affine_layers import Layer, through_weights
from swdc.ops.affine_rows import AffineRows, around_of, each, patches
from swdc.ops.base import register, target_of
from swdc.ops.call_cost import Cost, Options, Quotient, ShapeOf, Use
from swdc.ops.freezing import freeze_call
from swdc.ops.leaf_modules import adopt, bare
from swdc.ops.window_sizes import convolved_sizes


@register
class Convolution(Layer):
    """A convolution sums over input channels and writes output channels.

    A grouped convolution (depthwise ones included) loses either whole groups, or the same channels of every group:
    either way its weight stays rectangular. Samples, and positions along which the kernel has one tap, are treated
    index by index: channels that lie along these pass (``pointwise``).
    """

    names = tuple(f"aten.conv{n}d.{overload}" for n in (1, 2, 3) for overload in ("default", "padding"))
    modules: ClassVar[tuple[type[nn.Module], ...]] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    family: ClassVar[str] = "convolution"
    width = "out_channels"
    options = ("stride", "padding", "dilation", "groups")
    carries: ClassVar[bool] = True
    """Whether one constant channel can take over the constants of others: all are read at the same positions."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the input with the weight's second dimension, and the result with its first."""
        x, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
        if freezes(call, channels):
            return
        dim = channel_dim(call, channels)
        out = channels.channels(weight, 0)
        if groups == 1:
            channels.contract(call, x, dim, weight, 1, folds=self.folds(call), carries=self.carries)
        else:
            self._couple_groups(call, channels, dim, out)
        channels.bind(weight, 0, out, WRITES, call)
        channels.bind(bias, 0, out, WRITES, call)
        passing, labels = pointwise(call, channels.sizes), channels.labels(x)
        channels.hold(x, (d for d in range(len(labels)) if d != dim and d not in passing), call)
        channels.hold(weight, range(2, len(channels.sizes(weight))), call)
        channels.set(call, [out if d == dim else ids if d in passing else None for d, ids in enumerate(labels)])

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The filters, and the windows that they are laid on."""
        x, weight, rank = arguments["input"], arguments["weight"], arguments["weight"].dim() - 2
        options = *(each(arguments[name], rank) for name in self.options[:3]), arguments["groups"]
        sizes = convolved_sizes(x, weight, options)
        return None if sizes is None else [sizes]

    def folds(self, call: Call) -> bool:
        """Whether a constant adds the same at every position: not if there is padding, because borders differ."""
        return not is_padded(call)

    def _couple_groups(self, call: Call, channels: Channels, dim: int, outputs: Ids | None) -> None:
        inputs = channels.channels(call["input"], dim)
        read, _ = couple_groups(call, channels, call["groups"], inputs, outputs)
        read_in_groups(call, channels, inputs, channels.dead(call["input"])[dim], read)

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead filter gives its bias, with what constants add to it, unless these add less at borders."""
        if not has_fixed_groups(call):
            return
        dim, read, passing = channel_dim(call, channels), channels.dead(call["input"]), pointwise(call, channels.sizes)
        dead = [value if d in passing else UNKNOWN for d, value in enumerate(through_weights(call, read))]
        dead[dim] = channels.dead.written(call, read[dim], self.folds(call))
        channels.set_dead(call, dead)

    def affine_rows(self, call: Call) -> AffineRows | None:
        """The patches that the kernel is laid on; not with groups, nor in three dimensions, nor transposed."""
        x, weight, bias = call["input"], call["weight"], call["bias"]
        plain = isinstance(x, fx.Node) and isinstance(weight, Ref) and not isinstance(bias, fx.Node)
        if not plain or not self.carries or call["groups"] != 1 or spatial_rank(call) > 2:
            return None
        return AffineRows(x, weight, bias, partial(patches, call))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The number of groups falls by the groups that are removed."""
        return left_groups(call, kept)

    def unsaid(self, arguments: Mapping[str, Any]) -> str:
        """Groups have to be a number."""
        return unsaid_groups(arguments)

    def orderless(self, call: Call) -> bool:
        """True without groups, or if each group has one input and one output channel."""
        dim = -spatial_rank(call) - 1
        widths = [shape[dim] for shape in (call["input"].meta[SHAPE], call.shape)]
        return call["groups"] == 1 or widths == [call["groups"]] * 2

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """f_in x f_out x k^2 x positions; a grouped filter reads only its own group."""
        read, written = multiply_adds(call, shape_of)
        positions = tuple((call["input"], d) for d in pointwise(call, shape_of))  # these may hold channels, too
        return (Cost((*positions, (call["weight"], 0), (call["weight"], 1)), read, written, written),)

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """Sizes: groups, channels that each group reads and writes; for a depthwise convolution the channels alone.

        One of a single tap over a sequence is timed as a dense layer, because channels may lie along its positions.
        """
        x, weight = call["input"], call["weight"]
        if call["groups"] == 1 and len(shape_of(weight)) == 3 and len(pointwise(call, shape_of)) == len(call.shape) - 1:
            return super().lower(call, shape_of)
        options, dim = geometry(call, shape_of)
        written, read, whole = (weight, 0), (weight, 1), (x, dim)
        if shape_of(weight)[1] == 1 and shape_of(weight)[0] == shape_of(x)[dim] > 1:
            return (Use("DepthwiseConv", options, (Quotient((written,)),)),)
        groups = Quotient((whole,), (read,))
        return (Use("Conv", options, (groups, Quotient((read,)), Quotient((written, read), (whole,)))),)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.ConvNd``."""
        weight = tensors[call["weight"]]
        groups, rank = call["groups"], weight.dim() - 2
        module = bare(
            self.modules[rank - 1], weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
            stride=each(call["stride"], rank), padding=each(call["padding"], rank),
            dilation=each(call["dilation"], rank), groups=groups, bias=call["bias"] is not None,
        )  # fmt: skip
        return adopt(module, call, tensors, "weight", "bias")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the convolution that the module represents."""
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        overload = "padding" if isinstance(module.padding, str) else "default"
        return f"aten.conv{module.weight.dim() - 2}d.{overload}", super().arguments(module, path)[1]


_OPEN_GROUPS = "takes its number of groups from the batch, so that channels and samples lie along one dimension"
_OPEN_GROUPS_EDIT = "scale input and result for each sample instead of the weight, and call it with fixed groups"


def has_fixed_groups(call: Call) -> bool:
    """Whether the number of groups is a number, and not computed from the batch."""
    return isinstance(call["groups"], int)


def unsaid_groups(arguments: Mapping[str, Any]) -> str:
    """Return why a file cannot say a convolution whose number of groups is computed; it holds that as a number."""
    return "" if isinstance(arguments["groups"], int) else f"{_OPEN_GROUPS}; {_OPEN_GROUPS_EDIT}"


def freezes(call: Call, channels: Channels) -> bool:
    """Freeze a convolution whose groups or numbers have no rule, and return whether it is one."""
    if not has_fixed_groups(call):
        freeze_call(call, channels, _OPEN_GROUPS, _OPEN_GROUPS_EDIT)
        return True
    if channels.dtype(call["weight"]).is_complex:
        freeze_call(call, channels, "computes with complex numbers")
        return True
    return False


def channel_dim(call: Call, channels: Channels) -> int:
    """Return the dimension of input and result that holds channels: 1 with a batch, 0 without."""
    return len(call.shape) - len(channels.sizes(call["weight"])) + 1


def left_groups(call: Call, kept: Kept) -> dict[str, Any]:
    """Return the new number of groups, those of which anything is kept, if it may have changed."""
    mask = kept.mask(call["weight"], 0)
    if call["groups"] == 1 or mask is None or not has_fixed_groups(call):
        return {}
    return {"groups": int(mask.reshape(call["groups"], -1).any(1).sum())}


def couple_groups(
    call: Call, channels: Channels, groups: int, inputs: Ids | None, outputs: Ids | None
) -> tuple[Ids | None, Ids | None]:
    """Leave open whether a grouped convolution loses whole groups, or the same channels of every group.

    Return labels for the places within a group, of its input and of its output. If one side has fewer channels per
    group than there are groups and the other has more, their choices would differ; then the same channels of every
    group are coupled.
    """
    sizes = [1 if labels is None else len(labels) // groups for labels in (inputs, outputs)]
    if 1 < min(sizes) < groups < max(sizes):
        return _same_in_each(call, channels, groups, inputs), _same_in_each(call, channels, groups, outputs)
    (read_group, read), (written_group, written) = (grouped(call, channels, groups, one) for one in (inputs, outputs))
    if read_group is not None or written_group is not None:
        channels.join(read_group, written_group, call)
    return read, written


def read_in_groups(call: Call, channels: Channels, inputs: Ids | None, dead: Dead, read: Ids | None) -> None:
    """Couple places within a group with the weight's second dimension; dead ones must add nothing."""
    channels.bind(call["weight"], 1, read, READS, call)
    if read is not None and inputs is not None:
        rows = np.broadcast_to(dead, inputs.shape).reshape(-1, len(read))
        channels.absorb(call, read, np.where((rows == 0).all(0), 0.0, UNKNOWN), folds=False)


def grouped(call: Call, channels: Channels, groups: int, labels: Ids | None) -> tuple[Ids | None, Ids | None]:
    """Return labels of the groups, and of the places within a group (``None`` if there is only one)."""
    if labels is None or len(labels) == groups:
        return labels, None
    group, place = channels.factor(labels.reshape(groups, -1), call)
    return group, place


def _same_in_each(call: Call, channels: Channels, groups: int, labels: Ids | None) -> Ids | None:
    """Couple channels at the same place of every group, and return the labels of the first group."""
    if labels is None:
        return None
    rows = labels.reshape(groups, -1)
    first: Ids = rows[0]
    for row in rows[1:]:
        channels.join(first, row, call)
    return first


def spatial_rank(call: Call) -> int:
    """Return the number of trailing dimensions that a call works over: the length of options such as ``stride``."""
    lengths: list[int | None] = [argument.N for argument in target_of(call.operator)._schema.arguments]
    return next(length for length in lengths if length is not None)


def is_padded(call: Call) -> bool:
    """Whether a call pads: the padding is one amount for all dimensions, one for each, or a name."""
    padding = call["padding"]
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)


def pointwise(call: Call, shape_of: ShapeOf) -> list[int]:
    """Return the dimensions that a convolution treats index by index, so that an index of zeros stays zero.

    They are the batch, and positions along which the kernel has one tap and neither steps nor pads. A convolution that
    is given where to read mixes all positions.
    """
    kernel, rank = shape_of(call["weight"])[2:], len(shape_of(call["input"]))
    if "padding" not in call.arguments:
        return [*range(rank - len(kernel) - 1)]
    named = isinstance(call["padding"], str)  # by its name, nothing is padded around a single tap
    around = [0 if named else call["padding"], call.arguments.get("output_padding", 0)]
    options = zip(kernel, each(call["stride"], len(kernel)), *(each(o, len(kernel)) for o in around), strict=True)
    first = rank - len(kernel)
    return [*range(first - 1), *(first + d for d, option in enumerate(options) if option == (1, 1, 0, 0))]


def multiply_adds(call: Call, shape_of: ShapeOf) -> tuple[int, int]:
    """Return the multiply-adds of a pair of channels: by the positions that are read, and by those that are written.

    The positions are those along the dimensions that are not treated index by index.
    """
    kernel, passing = shape_of(call["weight"])[2:], pointwise(call, shape_of)
    channel = -len(kernel) - 1
    read, written = (
        prod(size for d, size in enumerate(shape) if d not in passing and d != len(shape) + channel)
        for shape in map(shape_of, (call["input"], call.node))
    )
    return prod(kernel) * read, prod(kernel) * written


def geometry(call: Call, shape_of: ShapeOf) -> tuple[Options, int]:
    """Return the options of a convolution in the form of ONNX, and the dimension of its input's channels."""
    shape, weight = shape_of(call["input"]), shape_of(call["weight"])
    rank, kernel = len(weight) - 2, weight[2:]
    strides, dilations = each(call["stride"], rank), each(call["dilation"], rank)
    around = around_of(each(call["padding"], rank), kernel, dilations)
    options = windows(shape, kernel, strides, around)
    return (*options, ("dilations", tuple(dilations))), len(shape) - rank - 1


def windows(shape: Sequence[int], kernel: Sequence[int], strides: Sequence[int], around: Sequence[int]) -> Options:
    """Return the options of windows over the last dimensions of a shape, padded before and after each of them."""
    rank = len(kernel)
    batch, size = prod(shape[: len(shape) - rank - 1]), tuple(shape[-rank:])
    placed = ("kernel", tuple(kernel)), ("strides", tuple(strides)), ("pads", tuple(around))
    return (("batch", batch), ("size", size), *placed)
