"""The parts of parameters that belong to channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import nn

from swdc.ir.distributed import is_spread, spread_like, whole
from swdc.ir.groups import Bools, Ids
from swdc.sparsity.selection.cache_blocks import lines
from swdc.sparsity.selection.lowest import not_finite
from swdc.sparsity.targets.base import Target
from swdc.sparsity.targets.tables import Place, Places


class Pulled:
    """Finds the parts of parameters that belong to given channels.

    Parameters whose rows are channels, such as gains and filters, are looked up together; the others are looked up one
    by one.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        places: Places,
        deciding: Collection[str],
        rests: Mapping[str, float],
    ) -> None:
        """``places`` says where channels lie in the pulled parameters; ``deciding`` names the scored parameters.

        ``rests`` has the values that removed weights become, by name, if they are not zero.
        """
        self._rests = rests
        self._parameters = {name: parameters[name] for name in places}
        self._unread = {name: parameter for name, parameter in self._parameters.items() if name not in deciding}
        self._rows = [name for name, own in places.items() if _are_rows(own)]
        self._others = {name: own for name, own in places.items() if not _are_rows(own)}
        self._sizes = [len(parameters[name]) for name in self._rows]
        self._starts: Ids = (np.cumsum(self._sizes) - self._sizes).astype(np.int64)
        channels = [_channels(size, places[name]) for name, size in zip(self._rows, self._sizes, strict=True)]
        self._channels = np.concatenate([np.zeros(0, dtype=np.int64), *channels])
        self._last: tuple[Bools | None, list[object], tuple[Target, ...]] = (None, [], ())

    def targets(self, gone: Bools) -> tuple[Target, ...]:
        """Return a target for each parameter in which channels of ``gone`` lie.

        They are the same objects as in the last call if ``gone`` is the same array, and no parameter has been moved
        since.
        """
        before, kinds, found = self._last
        if gone is not before or kinds != self._kinds():
            others = [
                _target(self._parameters[name], name, own, gone, self._rests.get(name, 0.0))
                for name, own in self._others.items()
            ]
            found = (*self._of_rows(gone), *(target for target in others if target is not None))
            self._last = gone, self._kinds(), found
        return found

    def check(self) -> None:
        """Raise ``PlanError`` with the name of a parameter that decides nothing but holds NaN or infinity. Collective.

        Scores do not show that such a parameter, for example the bias of a norm, has diverged. Its sum does, because
        NaN and infinity survive any sum.
        """
        if not self._unread or _sum(self._unread.values()).isfinite():
            return
        odd = [name for name, parameter in self._unread.items() if whole((~parameter.isfinite()).sum())]
        if odd:  # a sum of finite numbers may overflow
            raise not_finite(odd[0])

    def _kinds(self) -> list[object]:
        return [(parameter.device, parameter.dtype) for parameter in self._parameters.values()]

    def _of_rows(self, gone: Bools) -> list[Target]:
        if not self._rows:
            return []
        marked = np.append(gone, False)[self._channels]
        some = np.logical_or.reduceat(marked, self._starts)
        masks = torch.split_with_sizes(torch.from_numpy(marked), self._sizes)
        found = zip(self._rows, masks, some, strict=True)
        return [
            Target.of_rows(self._parameters[name], name, mask, self._rests.get(name, 0.0))
            for name, mask, any_ in found
            if any_
        ]


def _are_rows(places: list[Place]) -> bool:
    """Whether channels lie along the first dimension of a parameter and no other."""
    return [place.dim for place in places] == [0]


def _channels(size: int, places: list[Place]) -> Ids:
    """Return the channel that each row belongs to, -1 for none."""
    channels = np.full(size, -1)
    for place in places:
        channels[place.position] = place.channel
    return channels


def _target(parameter: nn.Parameter, name: str, places: list[Place], gone: Bools, rest: float) -> Target | None:
    """Return the part of a parameter that belongs to channels of ``gone``; ``None`` if there is none."""
    found = [(place.dim, place.position[gone[place.channel]]) for place in places]
    if not any(len(positions) for _, positions in found):
        return None
    chosen = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    for dim, positions in found:
        chosen.index_fill_(dim, torch.from_numpy(positions).to(parameter.device), True)
    return Target(parameter, name, spread_like(chosen, parameter), rest)


def _sum(parameters: Collection[nn.Parameter]) -> torch.Tensor:
    """Return the sum of all numbers of some parameters. Collective."""
    spread = [parameter.detach() for parameter in parameters if is_spread(parameter)]
    others = [parameter.detach() for parameter in parameters if not is_spread(parameter)]
    sums = [whole(part.sum()) for part in spread] + [line.sum() for (line,) in lines(others)]
    return torch.stack(sums).sum()
