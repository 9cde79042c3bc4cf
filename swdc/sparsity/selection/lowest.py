"""The lowest numbers of many tensors together: the set of eq. 4 of Tessier et al. 2022."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from swdc.errors import PlanError
from swdc.ir.distributed import Together, is_spread, joined_like, local, spread_like, whole
from swdc.sparsity.selection import bitwise
from swdc.sparsity.selection.bracket import Array, Bracket
from swdc.sparsity.selection.cache_blocks import PIECE, flat, joined, packs, parted

Tensors = Mapping[str, torch.Tensor]
FEW = 32768
"""Up to this many numbers, one selection from all of them is faster than the calls of a bracket."""


class Lowest:
    """Marks the k smallest numbers of all tensors, or those of the k smallest magnitudes.

    Of numbers that tie for the last place, those that come first are marked, in the order of the tensors and of the
    indices in each. With ``ties=True`` all that tie are marked. The set is exact, whatever the calls before were.
    Tensors in the memory of the host are read piece by piece, others without making the host wait.
    """

    def __init__(self, magnitudes: bool = True, ties: bool = False) -> None:
        self._magnitudes, self._ties = magnitudes, ties
        self._bracket = Bracket()
        self._finite: torch.Tensor | None = None
        self.last: Any = -math.inf
        """The threshold of the last call: the highest number that was marked."""

    def masks(self, tensors: Tensors, count: int) -> dict[str, torch.Tensor]:
        """Return for each tensor a mask of its numbers among the ``count`` lowest.

        Raises ``PlanError`` with the name of a tensor that holds NaN or infinity.
        """
        if count < 1:
            return {name: torch.zeros_like(t, dtype=torch.bool) for name, t in tensors.items()}
        if any(map(is_spread, tensors.values())):
            return self._over_processes(tensors, count, Together(tensors.values()))
        if not all(t.is_cpu for t in tensors.values()):
            return self._on_device(tensors, count)
        few = sum([t.numel() for t in tensors.values()]) <= FEW
        return self._at_once(tensors, count) if few else self._on_host(tensors, count)

    def _at_once(self, tensors: Tensors, count: int) -> dict[str, torch.Tensor]:
        line = joined([*tensors.values()])
        numbers: Array = (line.float() if line.element_size() < 4 else line).numpy()
        values = np.abs(numbers) if self._magnitudes else numbers
        if not np.maximum.reduce(values) < np.inf:
            raise _not_finite_of(tensors)
        self.last = np.partition(values, count - 1)[count - 1]
        marked: npt.NDArray[np.bool_] = values <= self.last
        surplus = 0 if self._ties else int(np.count_nonzero(marked)) - count
        if surplus:
            marked[np.flatnonzero(values == self.last)[-surplus:]] = False
        return dict(zip(tensors, parted(torch.from_numpy(marked), [*tensors.values()]), strict=True))

    def _on_host(self, tensors: Tensors, count: int) -> dict[str, torch.Tensor]:
        names = list(tensors)
        held = [[names[number] for number in pack] for pack in packs(list(tensors.values()))]
        arrays = [_line([tensors[name] for name in pack]) for pack in held]
        marks = [np.empty(array.numel(), dtype=np.bool_) for array in arrays]
        self.last = self._bracket.smallest(
            partial(self._numbers, arrays, tensors), count, sum([array.numel() for array in arrays]),
            partial(_cut, marks),
        )  # fmt: skip
        masks: dict[str, torch.Tensor] = {}
        for pack, marked in zip(held, marks, strict=True):
            masks.update(zip(pack, _shaped(torch.from_numpy(marked), [tensors[name] for name in pack]), strict=True))
        if not self._ties:
            self._drop(masks, tensors, self._bracket.marked - count)
        return masks

    def _drop(self, masks: dict[str, torch.Tensor], tensors: Tensors, surplus: int) -> None:
        """Take marks away from the last of the numbers that tie for the last place."""
        for name in reversed(masks):
            if surplus <= 0:
                return
            # in float64, because torch would round the threshold to the type of the numbers
            tied = self._magnitude(tensors[name]).double() == float(self.last)
            places = tied.reshape(-1).nonzero()[:, 0][-surplus:]
            mask = masks[name].contiguous()
            mask.view(-1)[places] = False
            masks[name] = mask
            surplus -= len(places)

    def _numbers(self, arrays: list[torch.Tensor], tensors: Tensors) -> Iterator[Array]:
        """Yield the numbers of one-dimensional tensors piece by piece, 16-bit numbers in float32."""
        for array in arrays:
            wide = torch.float32 if array.element_size() < 4 else array.dtype
            buffer: Array = torch.empty(min(PIECE, array.numel()), dtype=wide, device="cpu").numpy()
            for piece in torch.split(array, PIECE):
                values: Array = piece.to(wide).numpy()
                numbers = np.abs(values, out=buffer[: len(values)]) if self._magnitudes else values
                if not np.maximum.reduce(numbers, initial=0.0) < np.inf:
                    raise _not_finite_of(tensors)
                yield numbers

    def _on_device(self, tensors: Tensors, count: int) -> dict[str, torch.Tensor]:
        device = next(iter(tensors.values())).device
        found = torch._foreach_abs(list(tensors.values())) if self._magnitudes else tensors.values()
        numbers = torch.cat([t.flatten().to(device) for t in found])
        self._check_late(numbers, tensors)
        self.last = bitwise.smallest(numbers, count)
        under = numbers <= self.last
        if not self._ties:  # without waiting: of the ties, as many as there is room for
            tied = numbers == self.last
            under &= ~tied | (tied.cumsum(0) <= count - (under & ~tied).sum())
        marked = torch.split(under, [t.numel() for t in tensors.values()])
        return {
            name: mask.view(tensor.shape).to(tensor.device)
            for (name, tensor), mask in zip(tensors.items(), marked, strict=True)
        }

    def _over_processes(self, tensors: Tensors, count: int, together: Together) -> dict[str, torch.Tensor]:
        """Every process counts its own numbers; only counts are exchanged."""
        numbers = torch.cat([self._magnitude(together.own(t)) for t in tensors.values()])
        odd = {name: together.sum_((~local(t).isfinite()).sum()) for name, t in tensors.items()}
        if any(odd.values()):
            raise not_finite(next(name for name, number in odd.items() if number))
        self.last = bitwise.smallest(numbers, count, together.sum_)
        wide = {name: self._magnitude(local(t)).to(numbers.dtype) for name, t in tensors.items()}
        masks = {name: joined_like(wide[name] <= self.last, t) for name, t in tensors.items()}
        surplus = int(together.sum_((numbers <= self.last).sum())) - count
        return masks if self._ties or surplus <= 0 else self._without_last(masks, tensors, surplus)

    def _without_last(self, masks: dict[str, torch.Tensor], tensors: Tensors, surplus: int) -> dict[str, torch.Tensor]:
        """Do what ``_drop`` does for tensors in parts; collective."""
        gathered = {name: whole(mask) for name, mask in masks.items()}
        self._drop(gathered, {name: whole(tensor) for name, tensor in tensors.items()}, surplus)
        return {name: spread_like(mask, tensors[name]) for name, mask in gathered.items()}

    def _magnitude(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.abs() if self._magnitudes else numbers

    def _check_late(self, numbers: torch.Tensor, tensors: Tensors) -> None:
        """Raise if a number is not finite; on an accelerator maybe at a later call, because the host does not wait."""
        if self._finite is None:
            self._finite = torch.ones((), dtype=torch.bool, device="cpu", pin_memory=numbers.is_cuda)
        self._finite.copy_(numbers.max().isfinite(), non_blocking=True)
        if not self._finite:
            raise _not_finite_of(tensors)


def _cut(arrays: list[npt.NDArray[np.bool_]]) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield the arrays in the pieces into which ``torch.split`` cuts the numbers."""
    for array in arrays:
        for first in range(0, max(len(array), 1), PIECE):
            yield array[first : first + PIECE]


def _line(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors joined in one dimension; a single tensor as a view in the order of its memory, if possible."""
    views = flat(*tensors) if len(tensors) == 1 else None
    return joined(tensors) if views is None else views[0]


def _shaped(line: torch.Tensor, like: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parts of a line that ``_line`` made, in the shapes of the tensors in ``like``."""
    if len(like) > 1 or like[0].is_contiguous() or flat(*like) is None:
        return parted(line, like)
    outputs, inputs, *sides = like[0].shape
    return [line.view(outputs, *sides, inputs).permute(0, 3, 1, 2)]


def _not_finite_of(tensors: Tensors) -> PlanError:
    return not_finite(next((n for n, t in tensors.items() if not t.isfinite().all()), "a tensor"))


def not_finite(name: str) -> PlanError:
    """Return the error for a tensor that holds NaN or infinity."""
    return PlanError(
        f"expected finite weights, got NaN or infinity in {name}; training has diverged: lower the learning rate or "
        f"a_max, or take penalty='proximal', which is stable at any coefficient"
    )
