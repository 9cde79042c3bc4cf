"""The scores of channels as sums over the scores of single weights, all groups at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from swdc.ir.distributed import whole
from swdc.sparsity.planning.criteria import Scores
from swdc.sparsity.planning.dimensions import Floats
from swdc.sparsity.selection.lowest import not_finite
from swdc.sparsity.targets.structures import Part
from swdc.sparsity.targets.tables import Channels, Numbers, Readings
from swdc.sparsity.targets.weight_scores import Scoring
from swdc.sparsity.weight_criteria import Saliency, magnitude


class Segments:
    """The channels of the groups that may lose some, and their scores.

    By magnitude the score is the mean of the gains |gamma| that decide. Without such gains it is the Euclidean norm of
    the weights that write a channel, divided by the mean over the group. By any other saliency it is the sum over the
    weights that decide.

    Every tensor that decides is reduced to one number for each index of a dimension. These numbers form a line. If all
    channels have as many of them, in the same order, the line is a matrix whose columns are the channels. Otherwise
    the numbers of each channel are looked up (``Readings``).
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], parts: list[Part], saliency: Saliency, rests: Mapping[str, float]
    ) -> None:
        """``rests`` has the values at which parameters write zeros, by name, if they are not zero."""
        self._rests = rests
        self._parameters, self._parts, self._by_magnitude = parameters, parts, saliency is magnitude
        self.channels = Channels.of(parts)
        places = self.channels.places((part.deciding for part in parts), by_rank=True)
        self.scoring = Scoring(saliency, {name: parameters[name] for name in places})
        named = [(name, place.dim) for name, own in places.items() for place in own]
        self._reduced = [(name, _others(parameters[name], dim)) for name, dim in named]
        self._readings = Readings.of(places, parameters)
        kinds = {part.by_gain for part in parts}
        self._by_gain = kinds == {True}
        self._is_matrix = len(kinds) == 1 and self._readings.are_columns(len(self.channels))
        several = len(parts) > 1  # the mean over one group alone changes no order
        self._relative = self._by_magnitude and not self._by_gain and several

    def scores(self, groups: int) -> Scores:
        """Return float64 scores for each of a number of groups, ``None`` for those that are not among the parts.

        Raises ``PlanError`` with the name of a tensor if a score is NaN or infinity.
        """
        values = self.values()
        if not np.isfinite(values).all():
            raise not_finite(self._odd())
        owned = np.split(values.astype(np.float64, copy=False), self.channels.starts[1:])
        found: Scores = [None] * groups
        for part, own in zip(self._parts, owned, strict=True):
            found[part.number] = own
        return found

    def values(self) -> Numbers:
        """Return the score of every channel in the type of the weights, NaN and infinity among them."""
        numbers = [self._numbers(name, others) for name, others in self._reduced]
        line = (torch.cat(numbers) if len(numbers) > 1 else numbers[0]).cpu()
        values = self._of_matrix(line) if self._is_matrix else self._of_readings(line)
        return self._over_mean(values) if self._relative else values

    def _numbers(self, name: str, others: list[int]) -> torch.Tensor:
        """Return sums of scores over the other dimensions, or by magnitude norms of weights.

        Without other dimensions these are the scores, or by magnitude the weights.
        """
        scores = self._parameters[name].detach() if self._by_magnitude else self.scoring.of(name)
        wide = scores.float() if scores.element_size() < 4 else scores
        if self._by_magnitude and name in self._rests:
            wide = wide - self._rests[name]
        if not others:
            return whole(wide)
        return whole(torch.linalg.vector_norm(wide, 2, others) if self._by_magnitude else wide.sum(others))

    def _of_matrix(self, line: torch.Tensor) -> Numbers:
        """Return the scores of channels that are the columns of a matrix."""
        matrix = line.view(-1, len(self.channels))
        if not self._by_magnitude:
            found = matrix.sum(0)
        elif self._by_gain:
            found = torch.linalg.vector_norm(matrix, 1, 0) / len(matrix)
        else:
            found = torch.linalg.vector_norm(matrix, 2, 0)
        values: Numbers = found.numpy()
        return values

    def _of_readings(self, line: torch.Tensor) -> Floats:
        """Return the scores of channels whose numbers are looked up."""
        numbers: Floats = line.double().numpy()[self._readings.position]
        if not self._by_magnitude:
            return self._readings.sums(numbers)
        by_gain = self.channels.by_gain
        sums = self._readings.sums(np.where(by_gain[self._readings.channel], np.abs(numbers), np.square(numbers)))
        return np.where(by_gain, sums / self._readings.counts, np.sqrt(sums))

    def _over_mean(self, values: Numbers) -> Floats:
        """Return scores with norms divided by their mean over the group."""
        means = np.add.reduceat(values, self.channels.starts) / self.channels.widths
        divisors = np.maximum(means, np.finfo(np.float64).tiny)[self.channels.segment]
        over: Floats = values / np.where(self.channels.by_gain, 1, divisors)
        return over

    def _odd(self) -> str:
        """Return the name of a tensor that decides and holds NaN or infinity. Collective."""
        odd = (name for name, _ in self._reduced if whole((~self.scoring.of(name).isfinite()).sum()))
        return next(odd, "the scores")


def _others(tensor: torch.Tensor, dim: int) -> list[int]:
    """Return all dimensions of a tensor but one."""
    return [other for other in range(tensor.dim()) if other != dim]
