"""Parameters that are pulled but decide nothing, such as the shifts of norms: no score tells that they diverged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from swdc.ir.distributed import is_spread, whole
from swdc.sparsity.selection.lowest import not_finite
from swdc.sparsity.selection.pieces import lines


class Unread:
    """Checks that such parameters are finite, by their sum: NaN and infinity come through any."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)

    def check(self) -> None:
        """Raise ``PlanError`` with the name of one that holds NaN or infinity. Collective."""
        if not self._parameters:
            return
        spread = [parameter.detach() for parameter in self._parameters.values() if is_spread(parameter)]
        others = [parameter.detach() for parameter in self._parameters.values() if not is_spread(parameter)]
        sums = [whole(part.sum()) for part in spread] + [line.sum() for (line,) in lines(others)]
        total = torch.stack(sums).sum()
        if total.isfinite():
            return
        odd = [name for name, parameter in self._parameters.items() if whole((~parameter.isfinite()).sum())]
        if odd:  # finite numbers may have a sum that is not
            raise not_finite(odd[0])
