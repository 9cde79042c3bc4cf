"""The parts of parameters that belong to channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from swdc.ir.distributed import spread_like
from swdc.ir.groups import Bools, Ids
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.segments import Place

Pulls = Mapping[str, tuple[nn.Parameter, list[Place]]]


class Pulled:
    """Says for any channels that go which parts of which parameters are theirs.

    Parameters of which channels are rows, such as gains and filters, are looked up all together; of others the places
    are looked up one by one.
    """

    def __init__(self, pulls: Pulls) -> None:
        rows = {name: pull for name, pull in pulls.items() if [dim for dim, _, _ in pull[1]] == [0]}
        self._others: Pulls = {name: pull for name, pull in pulls.items() if name not in rows}
        self._rows = [(name, parameter) for name, (parameter, _) in rows.items()]
        self._sizes = [len(parameter) for _, parameter in self._rows]
        self._starts: Ids = (np.cumsum(self._sizes) - self._sizes).astype(np.int64)
        channels = [_channels(len(parameter), places) for parameter, places in rows.values()]
        self._channels = np.concatenate(channels) if channels else np.zeros(0, dtype=np.int64)
        self._parameters = [parameter for parameter, _ in pulls.values()]
        self._last: tuple[Bools | None, list[object], tuple[Target, ...]] = (None, [], ())

    def targets(self, gone: Bools) -> tuple[Target, ...]:
        """Return the parts of the channels that go, of the parameters that have some.

        These are the very ones of the last call if ``gone`` is the very array, and no parameter has been moved since.
        """
        before, kinds, found = self._last
        if gone is not before or kinds != self._kinds():
            others = [_target(parameter, name, places, gone) for name, (parameter, places) in self._others.items()]
            found = (*self._of_rows(gone), *(target for target in others if target is not None))
            self._last = gone, self._kinds(), found
        return found

    def _kinds(self) -> list[object]:
        return [(parameter.device, parameter.dtype) for parameter in self._parameters]

    def _of_rows(self, gone: Bools) -> list[Target]:
        if not self._rows:
            return []
        marked = np.append(gone, False)[self._channels]
        some = np.logical_or.reduceat(marked, self._starts)
        masks = torch.split_with_sizes(torch.from_numpy(marked), self._sizes)
        found = zip(self._rows, masks, some, strict=True)
        return [Target.of_rows(p, name, mask) for (name, p), mask, any_ in found if any_]


def _channels(size: int, places: list[Place]) -> Ids:
    """Return the channel that each row belongs to, -1 for none."""
    channels = np.full(size, -1)
    for _, positions, those in places:
        channels[positions] = those
    return channels


def _target(parameter: nn.Parameter, name: str, places: list[Place], gone: Bools) -> Target | None:
    """Return what goes of a parameter, whose ``places`` give positions along a dimension and their channels."""
    found = [(dim, positions[gone[channels]]) for dim, positions, channels in places]
    if not any(len(positions) for _, positions in found):
        return None
    chosen = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    for dim, positions in found:
        chosen.index_fill_(dim, torch.from_numpy(positions).to(parameter.device), True)
    return Target(parameter, name, spread_like(chosen, parameter))
