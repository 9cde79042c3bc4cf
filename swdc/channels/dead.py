"""Dead values: what a channel holds once it is dead, and what arithmetic makes of it.

A channel along one dimension of a value is dead when all that writes it is zero. Then it holds a constant, zero or
another: ``sigmoid`` makes 0.5 of it. A dead channel can be cut away if what sums over it loses nothing, or a constant
that a bias takes over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from swdc.ir.call import Call, Ref, Value
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Bools, Ids

Floats = npt.NDArray[np.float64]
Dead = float | Floats
"""The value of dead channels along one dimension: one for all, or one per index; NaN where it is not a constant."""
UNKNOWN = float("nan")

_NOT_FOLDED = "sums over the channel, and its dead value is not a constant that can be folded into the bias here"


@dataclass(frozen=True)
class Folded:
    """Constants that a call reads through ``weight`` and that its bias can take over: one for each index it reads."""

    weight: Ref
    values: Floats


class DeadValues(ABC):
    """The dead values of a program, filled in by the operators' rules; subclasses say what a channel dies of.

    ``dead(value)`` gives them along each dimension of a value, unknown where no rule said what they are. A result that
    is a tuple has a list of them for each of its values.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self.folded: dict[str, Folded] = {}
        """What calls read that their bias can take over, by their nodes."""
        self._nodes: dict[fx.Node, Sequence[Any]] = {}

    def __call__(self, value: Value) -> list[Dead]:
        """Return the dead values along each dimension of a value."""
        if isinstance(value, Ref):
            return self.of_tensor(value)
        return list(self._nodes.get(value, (UNKNOWN,) * len(value.meta.get(SHAPE) or ())))

    def set(self, call: Call, dead: Sequence[Any]) -> None:
        """Set the dead values along each dimension of a call's result."""
        self._nodes[call.node] = tuple(dead)

    def written(self, call: Call, arriving: Dead, folds: bool) -> Dead:
        """Return the dead values of what a layer writes that reads ``arriving``: the bias where its filter is zero.

        ``folds`` says that a constant input adds the same at every position.
        """
        bias = call["bias"]
        return affine(self(call["weight"])[0], 0.0 if bias is None else self(bias)[0])

    def absorb(self, call: Call, labels: Ids, dead: Dead, folds: bool, carries: bool) -> list[tuple[Ids, str]]:
        """Note what the bias of ``call``, which sums over ``labels``, can take over; return what has to stay, and why.

        ``folds`` says that the bias can take over a constant, ``carries`` that a channel can take over those of others.
        """
        values = np.broadcast_to(np.asarray(dead, dtype=np.float64), labels.shape)
        known = np.isfinite(values) if folds else values == 0
        if folds and (values[known] != 0).any():
            self.folded[call.node.name] = Folded(call["weight"], np.where(known, values, 0.0))
        return [] if known.all() else [(labels[~known], _NOT_FOLDED)]

    # -- what a channel dies of ---------------------------------------------------------------------------------

    @abstractmethod
    def of_tensor(self, name: Ref) -> list[Dead]:
        """Return the dead values along each dimension of a parameter or buffer."""

    @abstractmethod
    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return the dead values along a dimension of a value as a weight reads them."""

    @abstractmethod
    def centred(self, dead: Dead, mean: Value, variance: Value, eps: float) -> Dead:
        """Return what a norm by statistics from training makes of dead values, before its gain and shift."""

    @abstractmethod
    def follows(self, labels: Ids | None) -> bool:
        """Whether a dimension with these labels can have dead channels; one of a single channel has no labels."""

    @abstractmethod
    def zeroed(self, otherwise: Dead = UNKNOWN) -> Dead:
        """Return zero if all that writes a dead channel is sure to be zero, and ``otherwise`` if it is not."""


class Masked(DeadValues):
    """Dead values under the mask of a plan: it sets to zero all that writes a channel, and nothing else."""

    def of_tensor(self, name: Ref) -> list[Dead]:
        """Return zeros: the mask writes them."""
        return [0.0] * self.tensors[name].dim()

    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return them unchanged: the mask leaves a weight that reads a channel as it is."""
        return self(value)[dim]

    def centred(self, dead: Dead, mean: Value, variance: Value, eps: float) -> Dead:
        """Return unknown: the mask leaves statistics as they are, and analysis does not depend on values."""
        return UNKNOWN

    def follows(self, labels: Ids | None) -> bool:
        """Only channels with a label can be masked."""
        return labels is not None

    def zeroed(self, otherwise: Dead = UNKNOWN) -> Dead:
        """Return zero: the mask has written it everywhere."""
        return 0.0


def affine(gain: Dead, shift: Dead) -> Dead:
    """Return the dead value of ``gain * x + shift`` for any x: the shift where the gain is zero."""
    a, b = np.broadcast_arrays(np.asarray(gain, dtype=np.float64), np.asarray(shift, dtype=np.float64))
    return plain(np.where(a == 0, b, UNKNOWN))


def product(one: Dead, other: Dead) -> Dead:
    """Return the dead value of a product: zero where either factor is zero."""
    a, b = np.broadcast_arrays(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))
    return plain(np.where((a == 0) | (b == 0), 0.0, a * b))


def plain(values: Any) -> Dead:
    """Return a number for a result without dimensions."""
    return float(values) if np.ndim(values) == 0 else values


def at(dead: Dead, where: Ids | Bools | slice) -> Dead:
    """Return the dead values at some indices."""
    return dead if isinstance(dead, float) else dead[where]
