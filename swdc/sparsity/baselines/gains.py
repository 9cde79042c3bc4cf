"""A penalty on the gains of the batch norms that decide over channels (Liu et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.groups import Ids
from swdc.program import Program
from swdc.sparsity.gains import deciding_norms
from swdc.sparsity.method import gradient_of
from swdc.sparsity.planning import ignored_groups
from swdc.sparsity.targets import Target


def smooth_l1(gains: torch.Tensor) -> torch.Tensor:
    """Return the gradient of ``x^2`` inside [-1, 1] and of ``|x|`` outside."""
    return torch.where(gains.abs() <= 1, 2 * gains, gains.sign())


NORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"l1": torch.sign, "smooth_l1": smooth_l1}
"""The gradients of the norms, elementwise."""


class GainPenalty:
    """Adds the gradient of ``coefficient * sum(norm(gamma))`` over all channels that a batch norm decides over."""

    def __init__(self, program: nn.Module, coefficient: float, norm: str, ignore: Sequence[str]) -> None:
        if not 0 <= coefficient < float("inf"):
            raise PlanError(f"expected penalty as a coefficient of at least 0, got {coefficient}")
        if norm not in NORMS:
            raise PlanError(f"expected a norm of {list(NORMS)}, got {norm!r}")
        self.coefficient, self._gradient = coefficient, NORMS[norm]
        self._gains = _gains(program, ignore)

    def add_(self) -> None:
        """Add the gradient of the penalty to the gradients."""
        for target in self._gains:
            gains = target.parameter.index_select(0, target.chosen)
            gradient_of(target.parameter).index_add_(0, target.chosen, self._gradient(gains), alpha=self.coefficient)


def _gains(program: nn.Module, ignore: Sequence[str]) -> list[Target]:
    assert isinstance(program, Program)
    deciding = {f"{path}.weight" for path in deciding_norms(program)}
    ignored = ignored_groups(program, ignore)
    indices: dict[str, list[Ids]] = {}
    for member in (m for group in program.groups if group.name not in ignored for m in group.members):
        if member.tensor in deciding:
            indices.setdefault(member.tensor, []).append(member.indices.ravel())
    if not indices:
        raise PlanError(
            "expected batch norms that decide over channels, got a program without; add them with "
            "swdc.insert_batchnorm before training, or take the method 'magnitude'"
        )
    tensors = program.tensors
    found = []
    for name, places in indices.items():
        gain = tensors[name]
        assert isinstance(gain, nn.Parameter)
        found.append(Target(gain, name, torch.from_numpy(np.unique(np.concatenate(places))).to(gain.device)))
    return found
