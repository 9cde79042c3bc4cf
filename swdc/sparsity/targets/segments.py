"""The scores of channels as sums over the scores of single weights, all groups at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from swdc.distributed import is_spread, whole
from swdc.groups import Ids, Member
from swdc.program import Program
from swdc.sparsity.criteria import Scores
from swdc.sparsity.dimensions import Floats
from swdc.sparsity.lowest import not_finite
from swdc.sparsity.saliency import Saliency, magnitude
from swdc.sparsity.targets.scoring import Scoring
from swdc.sparsity.targets.structures import Part

Place = tuple[int, Ids, Ids]
"""A dimension of a tensor, positions along it, and the number of the channel that each belongs to."""


class Segments:
    """The channels of some groups, numbered through, and their scores.

    By magnitude the score is the mean of the gains |gamma| that decide, or the Euclidean norm of what writes a
    channel, divided by the mean over the group. By any other saliency it is the sum over the weights that decide.
    """

    def __init__(self, program: Program, parts: list[Part], saliency: Saliency) -> None:
        self._parts, self._tensors = parts, program.tensors
        widths = np.array([part.width for part in parts], dtype=np.int64)
        self.starts, self.total = np.cumsum(widths) - widths, int(widths.sum())
        self._widths, self._segments = widths, np.repeat(np.arange(len(parts)), widths)
        self.groups = np.repeat([part.number for part in parts], widths)
        self._by_norm = saliency is magnitude
        self._gains = {m.tensor for part in parts if part.by_gain for m in part.deciding}
        self._of_gains = np.repeat([part.by_gain for part in parts], widths)
        deciding = self._placed((start, part.deciding) for start, part in zip(self.starts, parts, strict=True))
        self.scoring = Scoring(saliency, {name: parameter for name, (parameter, _) in deciding.items()})
        self._sums = [(name, dim) for name, (_, places) in deciding.items() for dim, _, _ in places]
        lengths = [self._tensors[name].shape[dim] for name, dim in self._sums]
        offsets = np.cumsum(lengths) - lengths
        places = [place for _, found in deciding.values() for place in found]
        self._positions = np.concatenate([o + positions for o, (_, positions, _) in zip(offsets, places, strict=True)])
        self._channels = np.concatenate([channels for _, _, channels in places])
        self._counts = np.bincount(self._channels, minlength=self.total)
        relative = np.array([self._by_norm and not part.by_gain for part in parts])
        self._relative = relative if relative.any() else None
        only_gains = self._by_norm and not relative.any() and not any(is_spread(p) for p, _ in deciding.values())
        gains: list[torch.Tensor] = [parameter for parameter, _ in deciding.values()]
        self._magnitudes = gains if only_gains else None

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
        """Return the score of every channel."""
        sums = self._gathered().double().cpu().numpy()
        summed = np.bincount(self._channels, weights=sums[self._positions], minlength=self.total)
        values: Floats = summed.astype(np.float64, copy=False)
        if self._by_norm:
            values = np.where(self._of_gains, values / self._counts, np.sqrt(values))
        if not np.isfinite(values).all():
            odd = (n for n, _ in self._sums if whole((~self.scoring.of(n).isfinite()).sum()))
            raise not_finite(next(odd, "the scores"))
        if self._relative is not None:
            means = np.add.reduceat(values, self.starts) / self._widths
            values = values / np.where(self._relative, np.maximum(means, np.finfo(np.float64).tiny), 1)[self._segments]
        return values

    def _gathered(self) -> torch.Tensor:
        """Return the sums of all tensors that decide, one after the other."""
        if self._magnitudes is not None:
            return torch.cat(self._magnitudes).detach().abs()
        return torch.cat([self._reduced(name, dim) for name, dim in self._sums])

    def _reduced(self, name: str, dim: int) -> torch.Tensor:
        """Return the sum of the scores of a tensor, or of their squares, for each index of a dimension."""
        scores = self.scoring.of(name)
        wide = scores.float() if scores.element_size() < 4 else scores
        others = [d for d in range(wide.dim()) if d != dim]
        values = wide.square() if self._by_norm and name not in self._gains else wide
        return whole(values.sum(others) if others else values)

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
