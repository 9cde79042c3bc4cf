"""Constants of a program's own values: which channels are the same for every input, whatever a plan says.

The same rules that follow what a mask makes of channels follow here what the weights make of them. A filter of zeros
gives its bias, a gain of zero the shift, and what the layers behind make of these. A channel can go where it is known
to all that sum over it, or adds nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from swdc.analysis.residual import free_operands
from swdc.channels.labels import UNKNOWN, Channels, Dead, plain
from swdc.ir.call import Call, Ref, Value
from swdc.ir.groups import Ids
from swdc.ir.program import Program

Floats = npt.NDArray[np.float64]
_CARRIES = "carries the constants of others: the borders of a padded convolution see less of them"


@dataclass(frozen=True)
class Carried:
    """Channels that a padded convolution reads: the ``carrier`` stays, and can stand for every other constant one."""

    values: Floats
    carrier: int


class Constants(Channels):
    """Labels of a program in evaluation, and beside them the values of the channels that are constant."""

    masked = False

    def __init__(self, program: Program) -> None:
        super().__init__(program, free_operands(program))
        self._values = program.tensors
        self._slices: dict[str, list[Dead]] = {}
        self.carried: dict[str, Carried] = {}
        """What padded convolutions read that is constant and not zero, by their nodes."""

    def dead(self, value: Value) -> list[Dead]:
        """Return the constants along each dimension; of a tensor, what its slices hold where that is one number."""
        if not isinstance(value, Ref):
            return super().dead(value)
        if value not in self._slices:
            tensor = self._values[value].detach()
            real = not tensor.is_complex() and not tensor.is_meta
            self._slices[value] = [_slices(tensor, d) if real else UNKNOWN for d in range(tensor.dim())]
        return self._slices[value]

    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return the constants along a dimension as a weight reads them: zero where it is zero itself."""
        return plain(np.where(np.asarray(self.dead(weight)[weight_dim]) == 0, 0.0, self.dead(value)[dim]))

    def written(self, call: Call, arriving: Dead, folds: bool) -> Dead:
        """Return what a layer makes of the constants that it reads, where it reads nothing else."""
        weight, bias = call["weight"], call["bias"]
        if not isinstance(weight, Ref) or self._values[weight].is_meta:
            return UNKNOWN
        filters = self._values[weight].detach().cpu()
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
        shift = 0.0 if bias is None else self.dead(bias)[0]
        return np.where(unknown.any(2).ravel(), UNKNOWN, total + shift)

    def absorb(self, call: Call, labels: Ids | None, dead: Dead, folds: bool) -> None:
        """Let one channel carry the constants of the others into a padded convolution."""
        if labels is not None and not folds and self._may_carry(call):
            values = np.broadcast_to(np.asarray(dead, dtype=np.float64), labels.shape)
            constant = np.isfinite(values) & (values != 0)
            if constant.sum() > 1:
                carrier = int(np.argmax(np.where(constant, np.abs(values), 0.0)))
                self.carried[call.node.name] = Carried(np.where(constant, values, 0.0), carrier)
                self.freeze(labels[[carrier]], call.reason(_CARRIES))
                dead = np.where(constant, 0.0, values)
        super().absorb(call, labels, dead, folds)

    def _may_carry(self, call: Call) -> bool:
        ungrouped = call.operator.startswith("aten.conv") and call.arguments.get("groups") == 1
        return ungrouped and isinstance(call["weight"], Ref) and self.reads_alone(call["weight"])


def _slices(tensor: torch.Tensor, dim: int) -> Dead:
    """Return the number that each slice of a tensor holds throughout, NaN where it holds several."""
    others = [d for d in range(tensor.dim()) if d != dim]
    if tensor.numel() == 0:
        return UNKNOWN
    low, high = (tensor, tensor) if not others else (tensor.amin(others), tensor.amax(others))
    return torch.where(low == high, low.double(), torch.nan).cpu().numpy()
