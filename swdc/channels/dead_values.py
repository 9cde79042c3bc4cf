"""Dead values: the constants that dead channels hold, and arithmetic on them.

A channel along one dimension of a value is dead if all weights that write it are zero. Then it holds a constant: zero,
or another, such as 0.5 after a ``sigmoid``. A dead channel can be removed if the operators that sum over it lose
nothing, or only a constant that a bias takes over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from swdc.ir.call import Call, Ref, Value
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Bools, Ids

Floats = npt.NDArray[np.float64]
Dead = float | Floats
"""The value of dead channels along one dimension: one for all, or one per index; NaN if it is not a constant."""
UNKNOWN = float("nan")

_NOT_FOLDED = "sums over the channel, and its dead value is not a constant that can be folded into the bias here"


@dataclass(frozen=True)
class Folded:
    """Constants that a call reads through ``weight`` and that its bias can take over: one for each index it reads."""

    weight: Ref
    values: Floats


class DeadValues(ABC):
    """The dead values of a program, filled in by the operators' rules. Subclasses define when a channel is dead.

    ``dead(value)`` returns them for each dimension of a value; they are unknown unless a rule has set them. A result
    that is a tuple has a list of them for each of its values.
    """

    masks_readers: ClassVar[bool] = False
    """Whether weights that read a channel can be set to zero, too, where nothing before them makes it constant."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self.folded: dict[str, Folded] = {}
        """The constants that the biases of calls can take over, by the names of the calls' nodes."""
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
        """Return the dead values of the outputs of a layer that reads ``arriving``: the bias, if the filter is zero.

        ``folds`` says whether a constant input adds the same at every position.
        """
        bias = call["bias"]
        return affine(self(call["weight"])[0], 0.0 if bias is None else self(bias)[0])

    def absorb(self, call: Call, labels: Ids, dead: Dead, folds: bool, carries: bool) -> list[tuple[Ids, str]]:
        """Note the constants that the bias of ``call``, which sums over ``labels``, can take over.

        Return the labels that have to stay, with reasons.

        ``folds``: the bias can take over constants. ``carries``: one channel can take over the constants of others.
        """
        values = np.broadcast_to(np.asarray(dead, dtype=np.float64), labels.shape)
        known = np.isfinite(values) if folds else values == 0
        if folds and (values[known] != 0).any():
            self.folded[call.node.name] = Folded(call["weight"], np.where(known, values, 0.0))
        return [] if known.all() else [(labels[~known], _NOT_FOLDED)]

    # -- when a channel is dead ---------------------------------------------------------------------------------

    @abstractmethod
    def of_tensor(self, name: Ref) -> list[Dead]:
        """Return the dead values along each dimension of a parameter or buffer."""

    @abstractmethod
    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return the dead values along ``dim`` of a value, as ``weight`` reads them along ``weight_dim``."""

    @abstractmethod
    def centred(self, dead: Dead, mean: Value, variance: Value, eps: float) -> Dead:
        """Return dead values after a norm with statistics from training, before its gain and shift."""

    @abstractmethod
    def follows(self, labels: Ids | None) -> bool:
        """Whether a dimension with these labels can have dead channels; a dimension of size one has no labels."""

    @abstractmethod
    def zeroed(self, otherwise: Dead = UNKNOWN) -> Dead:
        """Return zero if everything that writes a dead channel is certain to be zero, else ``otherwise``."""


class Masked(DeadValues):
    """Dead values under the mask of a plan, which zeroes everything that writes a removed channel.

    Behind a norm without a gain, it also zeroes the weights that read the channel.
    """

    masks_readers = True

    def __init__(self, tensors: Mapping[str, torch.Tensor], unmasked: Collection[str] = ()) -> None:
        """``unmasked`` are the tensors that a mask leaves as they are."""
        super().__init__(tensors)
        self.unmasked = frozenset(unmasked)

    def of_tensor(self, name: Ref) -> list[Dead]:
        """Return zeros, because the mask sets them; unknown for a tensor that it leaves as it is."""
        return [UNKNOWN if name in self.unmasked else 0.0] * self.tensors[name].dim()

    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return the dead values unchanged, because the mask does not change a weight that reads a channel."""
        return self(value)[dim]

    def centred(self, dead: Dead, mean: Value, variance: Value, eps: float) -> Dead:
        """Return unknown: the mask does not change statistics, and the analysis does not depend on their values."""
        return UNKNOWN

    def follows(self, labels: Ids | None) -> bool:
        """Only channels with a label can be masked."""
        return labels is not None

    def zeroed(self, otherwise: Dead = UNKNOWN) -> Dead:
        """Return zero, because the mask sets it everywhere."""
        return 0.0


def affine(gain: Dead, shift: Dead) -> Dead:
    """Return the dead value of ``gain * x + shift`` for any x: the shift if the gain is zero, else unknown."""
    a, b = np.broadcast_arrays(np.asarray(gain, dtype=np.float64), np.asarray(shift, dtype=np.float64))
    return plain(np.where(a == 0, b, UNKNOWN))


def product(one: Dead, other: Dead) -> Dead:
    """Return the dead value of a product: zero if either factor is zero."""
    a, b = np.broadcast_arrays(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))
    return plain(np.where((a == 0) | (b == 0), 0.0, a * b))


def followed(dead: Dead, labels: Ids | None, size: Any) -> Dead:
    """Return dead values along a dimension of that size; unknown if they are not finite, or not those of its channels.

    A dimension without labels holds no channels that can go, unless its one channel is all that it holds.
    """
    length = len(labels) if labels is not None else 1 if size == 1 else 0
    if np.ndim(dead) == 0:
        return float(dead) if length and np.isfinite(dead) else UNKNOWN
    values = np.asarray(dead)
    return UNKNOWN if len(values) != length else np.where(np.isfinite(values), values, UNKNOWN)


def plain(values: Any) -> Dead:
    """Return dead values as they are, or as a number if they have no dimensions."""
    return float(values) if np.ndim(values) == 0 else values


def number(literal: Any) -> float:
    """Return the dead value that a literal argument gives: unknown if it is complex, or no number."""
    return float(literal) if isinstance(literal, int | float) else UNKNOWN


def in_type(dead: Dead, dtype: torch.dtype) -> Dead:
    """Return dead values as a type holds them: integers have no fraction.

    What the type cannot hold is infinite if the type is of floating point, and unknown if it wraps.
    """
    if dtype.is_complex or dead is UNKNOWN:
        return dead
    values = np.asarray(dead, dtype=np.float64)
    if dtype.is_floating_point:
        return plain(np.where(np.abs(values) > torch.finfo(dtype).max, np.inf, values))
    if dtype == torch.bool:
        return plain(np.where(np.isnan(values), UNKNOWN, values != 0))
    held, cut = torch.iinfo(dtype), np.trunc(values)
    return plain(np.where((cut >= held.min) & (cut <= held.max) | np.isinf(cut), cut, UNKNOWN))


def at(dead: Dead, where: Ids | Bools | slice) -> Dead:
    """Return the dead values at some indices."""
    return dead if isinstance(dead, float) else dead[where]
