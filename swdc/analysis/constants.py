"""Finds channels that the weights make constant, so that they are the same for every input, whatever a plan says.

The rules that propagate a mask through the operators propagate constants here. A filter of zeros writes its bias, a
gain of zero writes the shift, and later layers compute further constants from these. A channel can be removed if every
layer that sums over it knows its value, or if it adds nothing there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from swdc.channels.dead_values import UNKNOWN, Dead, DeadValues, Floats, plain
from swdc.ir.call import Call, Ref, Value
from swdc.ir.groups import Ids

_CARRIES = "carries the constants of others: the borders of a padded convolution see less of them"


@dataclass(frozen=True)
class Carried:
    """Constant channels that a padded convolution reads; the ``carrier`` stays and can replace all the others."""

    values: Floats
    carrier: int


class Constants(DeadValues):
    """Dead values of a program in evaluation: a channel is dead if the weights make it constant."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], changed: Collection[str] = ()) -> None:
        """``changed`` are the tensors that the program changes, so that they are not constant."""
        super().__init__(tensors)
        self._changed = changed
        self._slices: dict[str, list[Dead]] = {}
        self.carried: dict[str, Carried] = {}
        """Constant, nonzero channels that padded convolutions read, by the name of the node."""

    def of_tensor(self, name: Ref) -> list[Dead]:
        """Return for each dimension of a tensor the number that each slice holds, NaN if it holds several."""
        if name not in self._slices:
            tensor = self.tensors[name].detach()
            real = not tensor.is_complex() and not tensor.is_meta and name not in self._changed
            self._slices[name] = [_slices(tensor, d) if real else UNKNOWN for d in range(tensor.dim())]
        return list(self._slices[name])

    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return the constants along a dimension as a weight reads them: zero where the weight is zero."""
        return plain(np.where(np.asarray(self(weight)[weight_dim]) == 0, 0.0, self(value)[dim]))

    def centred(self, dead: Dead, mean: Value, variance: Value, eps: float) -> Dead:
        """Return the constants, minus the mean and divided by the deviation that training has seen."""
        scale: Floats = np.sqrt(np.asarray(self(variance)[0]) + eps)
        return (dead - self(mean)[0]) / scale

    def follows(self, labels: Ids | None) -> bool:
        """Return True: any channel can be constant, even a single one."""
        return True

    def zeroed(self, otherwise: Dead = UNKNOWN) -> Dead:
        """Return ``otherwise``: a constant need not come from zeros."""
        return otherwise

    def written(self, call: Call, arriving: Dead, folds: bool) -> Dead:
        """Return the constants that a layer writes, for the channels whose nonzero inputs are all constant."""
        weight, bias = call["weight"], call["bias"]
        if not isinstance(weight, Ref) or self.tensors[weight].is_meta or self.tensors[weight].is_complex():
            return UNKNOWN
        filters = self.tensors[weight].detach().cpu()
        groups = int(call.arguments.get("groups", 1))
        filters = filters.reshape(groups, -1, filters.shape[1], prod(filters.shape[2:]))  # group, written, read, kernel
        inputs = np.broadcast_to(np.asarray(arriving, dtype=np.float64), groups * filters.shape[2]).reshape(groups, -1)
        known = np.isfinite(inputs) if folds else inputs == 0
        if not known.any():
            return super().written(call, arriving, folds)
        unknown = (filters != 0).any(3).numpy() & ~known[:, None]
        adds = np.flatnonzero((known & (inputs != 0)).any(0))
        sums = filters[:, :, torch.from_numpy(adds)].sum(3, dtype=torch.float64).numpy()
        total = (sums * np.where(known, inputs, 0.0)[:, None, adds]).sum(2).ravel()
        shift = 0.0 if bias is None else self(bias)[0]
        return np.where(unknown.any(2).ravel(), UNKNOWN, total + shift)

    def absorb(self, call: Call, labels: Ids, dead: Dead, folds: bool, carries: bool) -> list[tuple[Ids, str]]:
        """Let one channel carry the constants of the others if no bias can take them over."""
        values = np.broadcast_to(np.asarray(dead, dtype=np.float64), labels.shape)
        constant = np.isfinite(values) & (values != 0)
        if folds or not carries or constant.sum() <= 1:
            return super().absorb(call, labels, dead, folds, carries)
        carrier = int(np.argmax(np.where(constant, np.abs(values), 0.0)))
        self.carried[call.node.name] = Carried(np.where(constant, values, 0.0), carrier)
        left = super().absorb(call, labels, np.where(constant, 0.0, values), folds, carries)
        return [(labels[[carrier]], _CARRIES), *left]


def _slices(tensor: torch.Tensor, dim: int) -> Dead:
    """Return the number that each slice of a tensor holds throughout; NaN if it holds several numbers."""
    others = [d for d in range(tensor.dim()) if d != dim]
    if tensor.numel() == 0:
        return UNKNOWN
    low, high = (tensor, tensor) if not others else (tensor.amin(others), tensor.amax(others))
    return torch.where((low == high) & low.isfinite(), low.double(), torch.nan).cpu().numpy()
