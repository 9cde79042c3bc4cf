"""The parts of parameters that belong to channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.distributed import is_spread, spread_like
from swdc.groups import Bools, Ids
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.segments import Place


class Pulled:
    """Says for any channels that go which parts of which parameters are theirs.

    Vectors, such as gains and shifts, are looked up all together; of other parameters the places are looked up one by
    one.
    """

    def __init__(self, pulls: Mapping[str, tuple[nn.Parameter, list[Place]]]) -> None:
        vectors = {n: pull for n, pull in pulls.items() if pull[0].dim() == 1 and not is_spread(pull[0])}
        self._others = {name: pull for name, pull in pulls.items() if name not in vectors}
        self._vectors = [(name, parameter) for name, (parameter, _) in vectors.items()]
        self._sizes = [len(parameter) for _, parameter in self._vectors]
        self._starts: Ids = (np.cumsum(self._sizes) - self._sizes).astype(np.int64)
        channels = [_channels(len(parameter), places) for parameter, places in vectors.values()]
        self._channels = np.concatenate(channels) if channels else np.zeros(0, dtype=np.int64)

    def targets(self, gone: Bools) -> list[Target]:
        """Return the parts of the channels that go, of the parameters that have some."""
        others = [_target(parameter, name, places, gone) for name, (parameter, places) in self._others.items()]
        return [*self._of_vectors(gone), *(target for target in others if target is not None)]

    def _of_vectors(self, gone: Bools) -> list[Target]:
        if not self._vectors:
            return []
        marked = np.append(gone, False)[self._channels]
        some = np.logical_or.reduceat(marked, self._starts)
        masks = torch.split_with_sizes(torch.from_numpy(marked), self._sizes)
        found = zip(self._vectors, masks, some, strict=True)
        return [Target(p, name, mask.to(p.device)) for (name, p), mask, any_ in found if any_]


def _channels(size: int, places: list[Place]) -> Ids:
    """Return the channel that each position of a vector belongs to, -1 for none."""
    channels = np.full(size, -1)
    for _, positions, those in places:
        channels[positions] = those
    return channels


def _target(parameter: nn.Parameter, name: str, places: list[tuple[int, Ids, Ids]], gone: Bools) -> Target | None:
    """Return what goes of a parameter, whose ``places`` give positions along a dimension and their channels."""
    found: list[tuple[int, Any]] = [(dim, positions[gone[channels]]) for dim, positions, channels in places]
    if not any(len(positions) for _, positions in found):
        return None
    if [dim for dim, _ in found] == [0] and not is_spread(parameter):
        return Target(parameter, name, torch.from_numpy(np.sort(found[0][1])).to(parameter.device))
    chosen = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    for dim, positions in found:
        chosen.index_fill_(dim, torch.from_numpy(positions).to(parameter.device), True)
    return Target(parameter, name, spread_like(chosen, parameter))
