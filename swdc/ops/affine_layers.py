"""Layers that sum over channels. A layer can absorb a neighbouring affine map of channels, y = scale x + shift.

- a layer (W, b), then the map:   s (W x + b) + t  =  (s W) x + (s b + t)
- the map, then a layer (W, b):   W (s x + t) + b  =  (W s) x + (b + W t)

A convolution with padding pads its input with zeros, not with t: then the second form is exact only if t = 0.
Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.ir.call import Call
from swdc.ops.base import Affine, Leaf, Tensors
from swdc.ops.special_activations import zero_only


class Layer(Leaf):
    """A layer with a weight and an optional bias: a convolution, a transposed convolution, or a dense layer."""

    absorbs = True
    writes_channels = True
    inputs_first: ClassVar[bool] = False
    """Whether the first dimension of the weight holds input channels, not output channels."""

    def folds(self, call: Call) -> bool:
        """Whether a constant input adds the same at every position."""
        raise TypeError(f"{type(self).__name__} has to say whether constants add the same everywhere")

    def channels_along(self, call: Call, weight: Tensor) -> int | None:
        """Return the dimension of the result that holds channels: by default 1 with a batch, ``None`` without."""
        return 1 if weight.dim() == len(call.shape) else None

    def then_affine(self, call: Call, tensors: Tensors, affine: Affine, dim: int) -> Affine | None:
        """Return weight and bias of a layer that computes this layer, then the map."""
        if not self._is_known(call, tensors, dim):
            return None
        scale, shift = affine
        weight = self._by_group(call, tensors[call["weight"]].double())
        scaled = self._as_stored(call, weight * scale.reshape(len(weight), -1, 1, 1), tensors)
        return scaled, shift if call["bias"] is None else shift + scale * _bias(call, tensors)

    def after_affine(self, call: Call, tensors: Tensors, affine: Affine) -> Affine | None:
        """Return weight and bias of a layer that computes the map, then this layer; ``None`` if borders differ."""
        if not self._is_known(call, tensors, 1) or (bool(affine[1].any()) and not self.folds(call)):
            return None
        weight = self._by_group(call, tensors[call["weight"]].double())
        scale, shift = (one.reshape(len(weight), 1, -1, 1) for one in affine)
        share = (weight * shift).sum((2, 3)).flatten()
        scaled = self._as_stored(call, weight * scale, tensors)
        return scaled, share if call["bias"] is None else share + _bias(call, tensors)

    def _is_known(self, call: Call, tensors: Tensors, dim: int) -> bool:
        """Whether weight and bias are real tensors of the program, and the result's channels lie along ``dim``."""
        if call["weight"] not in tensors or not (call["bias"] is None or call["bias"] in tensors):
            return False
        weight = tensors[call["weight"]]
        return not weight.is_complex() and dim == self.channels_along(call, weight)

    def _by_group(self, call: Call, weight: Tensor) -> Tensor:
        """Return a weight as (groups, outputs of a group, inputs of a group, positions)."""
        weight, groups = weight.detach(), call.arguments.get("groups", 1)
        grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return grouped.transpose(1, 2) if self.inputs_first else grouped

    def _as_stored(self, call: Call, grouped: Tensor, tensors: Tensors) -> Tensor:
        laid = grouped.transpose(1, 2) if self.inputs_first else grouped
        return laid.reshape(tensors[call["weight"]].shape)


def through_weights(call: Call, positions: Sequence[Dead]) -> list[Dead]:
    """Return the dead values along dimensions that a layer treats index by index: zero stays zero without a bias.

    A bias is another constant for each channel that is written, so that there is no single one for the index.
    """
    return [zero_only(dead) if call["bias"] is None else UNKNOWN for dead in positions]


def _bias(call: Call, tensors: Tensors) -> Tensor:
    return tensors[call["bias"]].detach().double()
