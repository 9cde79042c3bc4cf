"""The scores of channels as sums over the scores of single weights, all groups at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from swdc.ir.distributed import whole
from swdc.ir.groups import Ids, Member
from swdc.ir.program import Program
from swdc.sparsity.planning.criteria import Scores
from swdc.sparsity.planning.dimensions import Floats
from swdc.sparsity.saliency import Saliency, magnitude
from swdc.sparsity.selection.lowest import not_finite
from swdc.sparsity.targets.scoring import Scoring
from swdc.sparsity.targets.structures import Part

Numbers = npt.NDArray[np.floating[Any]]
Place = tuple[int, Ids, Ids]
"""A dimension of a tensor, positions along it, and the number of the channel that each belongs to."""


class Segments:
    """The channels of some groups, numbered through, and their scores.

    By magnitude the score is the mean of the gains |gamma| that decide, or the Euclidean norm of what writes a
    channel, divided by the mean over the group. By any other saliency it is the sum over the weights that decide.

    Every tensor that decides is reduced to one number for each index of a dimension. Where all channels have as many
    of these, in the same order, they are the rows of one table; elsewhere they are looked up one by one.
    """

    def __init__(self, program: Program, parts: list[Part], saliency: Saliency) -> None:
        self._parts, self._tensors = parts, program.tensors
        widths = np.array([part.width for part in parts], dtype=np.int64)
        self.starts, self.total = np.cumsum(widths) - widths, int(widths.sum())
        self._widths, self._segments = widths, np.repeat(np.arange(len(parts)), widths)
        self.groups = np.repeat([part.number for part in parts], widths)
        self._by_norm = saliency is magnitude
        self._gains = {m.tensor for part in parts if part.by_gain for m in part.deciding}
        deciding = self._placed(_by_rank(self.starts, parts))
        self.deciding = frozenset(deciding)
        self.scoring = Scoring(saliency, {name: parameter for name, (parameter, _) in deciding.items()})
        sums = [(parameter, name, dim) for name, (parameter, places) in deciding.items() for dim, _, _ in places]
        self._sums = [(name, [d for d in range(parameter.dim()) if d != dim]) for parameter, name, dim in sums]
        lengths = [parameter.shape[dim] for parameter, _, dim in sums]
        offsets = np.cumsum(lengths) - lengths
        places = [place for _, found in deciding.values() for place in found]
        self._positions = np.concatenate([o + positions for o, (_, positions, _) in zip(offsets, places, strict=True)])
        self._channels = np.concatenate([channels for _, _, channels in places])
        self._counts = np.bincount(self._channels, minlength=self.total)
        self._of_gains = np.repeat([part.by_gain for part in parts], widths)
        self._is_table = self._of_gains.all() == self._of_gains.any() and _is_table(
            self._positions, self._channels, sum(lengths), self.total
        )
        relative = np.array([self._by_norm and not part.by_gain for part in parts])
        several = len(parts) > 1  # in one group alone it changes no order
        self._relative = relative if several and relative.any() else None

    def pulls(self) -> dict[str, tuple[nn.Parameter, list[Place]]]:
        """Return the parameters that are pulled, with the places of the channels in them."""
        return self._placed((start, part.pulled) for start, part in zip(self.starts, self._parts, strict=True))

    def scores(self, groups: int) -> Scores:
        """Return scores for each of a number of groups, ``None`` for those that are not among the parts."""
        found: Scores = [None] * groups
        for part, own in zip(self._parts, np.split(self.values(), self.starts[1:]), strict=True):
            found[part.number] = own
        return found

    def values(self) -> Floats:
        """Return the score of every channel; ``PlanError`` where one is no finite number."""
        return self.checked(self.unchecked())

    def checked(self, values: Numbers) -> Floats:
        """Return scores in float64; ``PlanError`` with the name of a tensor if there is NaN or infinity among them."""
        if not np.isfinite(values).all():
            odd = (n for n, _ in self._sums if whole((~self.scoring.of(n).isfinite()).sum()))
            raise not_finite(next(odd, "the scores"))
        return values.astype(np.float64, copy=False)

    def unchecked(self) -> Numbers:
        """Return the score of every channel, in the type of the weights, whatever they are."""
        reduced = [self._reduced(name, others) for name, others in self._sums]
        line = (torch.cat(reduced) if len(reduced) > 1 else reduced[0]).cpu()
        values: Numbers
        if self._is_table:
            values = self._of_table(line.view(-1, self.total)).numpy()
        else:
            values = self._looked_up(line.double().numpy()[self._positions])
        if self._relative is not None:
            means = np.add.reduceat(values, self.starts) / self._widths
            values = values / np.where(self._relative, np.maximum(means, np.finfo(np.float64).tiny), 1)[self._segments]
        return values

    def _of_table(self, table: torch.Tensor) -> torch.Tensor:
        """Return the scores of channels that are the columns of a table."""
        if not self._by_norm:
            return table.sum(0)
        norms: torch.Tensor = torch.linalg.vector_norm(table, 1 if self._gains else 2, 0)
        return norms / len(table) if self._gains else norms

    def _looked_up(self, numbers: Floats) -> Floats:
        """Return the scores of channels from numbers of which ``_channels`` says whose they are."""
        if self._by_norm:
            numbers = np.where(self._of_gains[self._channels], np.abs(numbers), np.square(numbers))
        summed: Floats = np.bincount(self._channels, weights=numbers, minlength=self.total).astype(np.float64)
        return np.where(self._of_gains, summed / self._counts, np.sqrt(summed)) if self._by_norm else summed

    def _reduced(self, name: str, others: list[int]) -> torch.Tensor:
        """Return sums of scores over some dimensions, or norms of weights (of single ones, these themselves)."""
        scores = self._tensors[name].detach() if self._by_norm else self.scoring.of(name)
        wide = scores.float() if scores.element_size() < 4 else scores
        if not others:
            return whole(wide)
        return whole(torch.linalg.vector_norm(wide, 2, others) if self._by_norm else wide.sum(others))

    def _placed(self, found: Iterable[tuple[int, tuple[Member, ...]]]) -> dict[str, tuple[nn.Parameter, list[Place]]]:
        """Collect members by their tensor and dimension."""
        slots: dict[str, dict[int, list[tuple[Ids, Ids]]]] = {}
        for start, members in found:
            for m in members:
                channels = np.repeat(np.arange(start, start + len(m.indices)), m.multiplicity)
                slots.setdefault(m.tensor, {}).setdefault(m.dim, []).append((m.indices.ravel(), channels))
        placed: dict[str, tuple[nn.Parameter, list[Place]]] = {}
        for name, dims in slots.items():
            parameter = self._tensors[name]
            assert isinstance(parameter, nn.Parameter)
            joined = [(dim, [np.concatenate(x) for x in zip(*held, strict=True)]) for dim, held in dims.items()]
            placed[name] = (parameter, [(dim, positions, channels) for dim, (positions, channels) in joined])
        return placed


def _by_rank(starts: Ids, parts: list[Part]) -> Iterator[tuple[int, tuple[Member, ...]]]:
    """Yield the first member that decides of every part, then the second of every part, and so on."""
    for rank in range(max(len(part.deciding) for part in parts)):
        for start, part in zip(starts, parts, strict=True):
            yield int(start), part.deciding[rank : rank + 1]


def _is_table(positions: Ids, channels: Ids, length: int, total: int) -> bool:
    """Whether the numbers of a line of this length are, in their order, those of all channels again and again."""
    whole_line = np.array_equal(positions, np.arange(length))
    return whole_line and length % total == 0 and np.array_equal(channels, np.arange(length) % total)
