"""A layer beside an affine map of channels, y = scale x + shift, does the work of both.

- a layer (W, b), then the map:   s (W x + b) + t  =  (s W) x + (s b + t)
- the map, then a layer (W, b):   W (s x + t) + b  =  (W s) x + (b + W t)
- the map, then another:          s' (s x + t) + t'  =  s' s x + (s' t + t')

A convolution that pads adds zeros to what it reads, not t: there the second is exact only where t = 0.
All is computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx

from swdc.ir.call import Call
from swdc.ir.graph import SHAPE
from swdc.ops import Operator
from swdc.ops.convolution import Convolution, is_padded
from swdc.ops.linear import Linear
from swdc.ops.norms_per_channel import affine_in_evaluation
from swdc.ops.transposed_convolution import TransposedConvolution

_RESHAPES = (
    "aten.reshape.default", "aten.view.default", "aten.reshape_as.default", "aten.view_as.default",
    "aten.flatten.using_ints", "aten.unflatten.int",
)  # fmt: skip
_LIKE_ANOTHER = ("aten.reshape_as.default", "aten.view_as.default", "aten.expand_as.default")
Tensors = Mapping[str, Tensor]
Affine = tuple[Tensor, Tensor]
"""Scale and shift, one of each for each channel."""


def is_layer(operator: Operator, call: Call, tensors: Tensors, dim: int = 1) -> bool:
    """Whether a call is a convolution or a dense layer with tensors of the program, and channels along ``dim``."""
    if not isinstance(operator, Convolution | TransposedConvolution | Linear) or call["weight"] not in tensors:
        return False
    weight, rank = tensors[call["weight"]], len(call.shape)
    known = call["bias"] is None or call["bias"] in tensors
    batched = isinstance(operator, Linear) or weight.dim() == rank
    return known and batched and dim == (rank - 1 if isinstance(operator, Linear) else 1) and not weight.is_complex()


def readers(value: fx.Node) -> list[fx.Node]:
    """Return what reads a value, and not its sizes alone."""

    def reads(user: fx.Node) -> bool:
        is_size = str(user.target).startswith("aten.sym_size.")
        return not is_size and not (str(user.target) in _LIKE_ANOTHER and user.args[0] is not value)

    return [user for user in value.users if reads(user)]


def laid_out_from(call: Call, dim: int) -> tuple[fx.Node, int] | None:
    """Return the value that a call only lays out anew, and which dimension of it ``dim`` of the result is.

    ``None`` where a call does something else, or where ``dim`` is made of several dimensions.
    """
    source, shape = call.arguments.get("self"), call.node.meta[SHAPE]
    if not isinstance(source, fx.Node):
        return None
    before = source.meta[SHAPE]
    if call.operator == "aten.permute.default":
        return source, call["dims"][dim] % len(shape)
    if call.operator == "aten.transpose.int":
        one, other = (call[name] % len(shape) for name in ("dim0", "dim1"))
        return source, {one: other, other: one}.get(dim, dim)
    keeps_rows = dim == len(shape) - 1 and len(before) > 0 and before[-1] == shape[-1]
    return (source, len(before) - 1) if call.operator in _RESHAPES and keeps_rows else None


def reads_borders(operator: Operator, call: Call) -> bool:
    """Whether a layer reads less at the borders of a feature map than inside."""
    return isinstance(operator, TransposedConvolution) or (isinstance(operator, Convolution) and is_padded(call))


def layer_then_affine(call: Call, tensors: Tensors, affine: Affine) -> Affine:
    """Return weight and bias of a layer that does the work of a layer and an affine map of what it gives."""
    scale, shift = affine
    weight = _by_group(call, tensors[call["weight"]].double())
    scaled = weight * scale.reshape(len(weight), -1, 1, 1)
    return _as_stored(call, scaled, tensors), shift if call["bias"] is None else shift + scale * _bias(call, tensors)


def affine_then_layer(call: Call, tensors: Tensors, affine: Affine) -> Affine:
    """Return weight and bias of a layer that does the work of an affine map of what it reads, and of the layer."""
    weight = _by_group(call, tensors[call["weight"]].double())
    scale, shift = (one.reshape(len(weight), 1, -1, 1) for one in affine)
    share = (weight * shift).sum((2, 3)).flatten()
    return _as_stored(call, weight * scale, tensors), share if call["bias"] is None else share + _bias(call, tensors)


def affine_then_norm(call: Call, tensors: Tensors, affine: Affine) -> Affine:
    """Return gain and shift of a batch norm, its statistics as they are, that does the work of both in evaluation."""
    mean, variance = (tensors[call[name]].double() for name in ("running_mean", "running_var"))
    own = affine_in_evaluation(call, tensors)
    assert own is not None
    scale, shift = own[0] * affine[0], own[0] * affine[1] + own[1]
    return scale * (variance + call["eps"]).sqrt(), shift + mean * scale


def _bias(call: Call, tensors: Tensors) -> Tensor:
    return tensors[call["bias"]].detach().double()


def _by_group(call: Call, weight: Tensor) -> Tensor:
    """Return a weight as (groups, outputs of a group, inputs of a group, positions)."""
    weight, groups = weight.detach(), call.arguments.get("groups", 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return grouped.transpose(1, 2) if _has_inputs_first(call) else grouped


def _as_stored(call: Call, grouped: Tensor, tensors: Tensors) -> Tensor:
    laid = grouped.transpose(1, 2) if _has_inputs_first(call) else grouped
    return laid.reshape(tensors[call["weight"]].shape)


def _has_inputs_first(call: Call) -> bool:
    return call.operator in TransposedConvolution.names
