"""``a="auto"``: the norm of what is targeted follows a set course to zero, whatever the network and the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.distributed import Together
from swdc.sparsity.ownership import rates_of
from swdc.sparsity.pulling import change_
from swdc.sparsity.targets import Target

AUTO = "auto"
POWER = 1.5


def course(s: int, steps: int) -> float:
    """Return what is left after step ``s`` of the share of the norm at the start: ``(1 - s / (steps - 1))^1.5``.

    It is exactly zero at the last step, ``s = steps - 1``, and from then on.
    """
    return max(0.0, 1 - s / (steps - 1)) ** POWER if steps > 1 else 0.0


class AutomaticPenalty:
    """Shrinks what is targeted after each step of the optimizer, by as much as the course asks for.

    What is controlled is the share ``|w*| / |w|`` of the norm of all parameters that can be targeted which lies in
    what is targeted. It has no scale, so that neither the size of the weights, nor the rate, nor the kind of the
    optimizer matters: if gradients push harder, more is taken away. The course starts at the share that the first
    step of the optimizer leaves; where training itself keeps below the course, nothing is shrunk.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: Optimizer) -> None:
        self._parameters, self._optimizer = list(parameters), optimizer
        self._together = Together(self._parameters)
        self._start: torch.Tensor | None = None
        self._due: tuple[Sequence[Target], float] = ((), 1.0)
        self._factor = torch.ones(())
        self._rate: float | torch.Tensor = 0.0

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Note what to shrink; ``strength`` is what the course leaves of the share at the start."""
        self._due = targets, strength

    def follow(self) -> None:
        """Shrink it, once."""
        (targets, left), self._due = self._due, ((), 1.0)
        if not targets:
            return
        aimed = self._norm(_chosen_of(target, self._together) for target in targets)
        whole = self._norm(self._together.own(parameter) for parameter in self._parameters)
        if self._start is None:
            self._start = aimed / whole
        self._factor = _factor(aimed, whole, left * self._start)
        self._rate = rates_of(self._optimizer)[id(targets[0].parameter)]
        for target in targets:
            change_(target, torch.zeros_like if left == 0 else self._shrunk)

    def _shrunk(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self._factor.to(weight.dtype)

    def _norm(self, parts: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return the Euclidean norm of tensors of one dimension together, over all processes; collective."""
        wide = [part.float() if part.element_size() < 4 else part for part in parts]
        squares = torch.stack([norm.double() for norm in torch._foreach_norm(wide)]).square().sum()
        return self._together.sum_(squares).sqrt()

    def coefficient(self, mu: float) -> float:
        """Return the ``a`` with which the proximal penalty would have shrunk as much as the last step did."""
        factor, rate = float(self._factor), float(self._rate)
        if factor == 1:
            return 0.0
        return (1 / factor - 1) / (rate * mu) if factor * rate else math.inf

    def state_dict(self) -> dict[str, float]:
        """Return where the course starts."""
        return {} if self._start is None else {"start": float(self._start)}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state that ``state_dict`` returned."""
        device = self._parameters[0].device
        self._start = torch.tensor(state["start"], dtype=torch.float64, device=device) if "start" in state else None


def _factor(aimed: torch.Tensor, whole: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return by what to multiply what has the norm ``aimed`` to make it that share of the ``whole`` norm, at most 1.

    The rest keeps its norm, so that the aim is ``rest * share / sqrt(1 - share^2)``.
    """
    rest = (whole.square() - aimed.square()).clamp_(min=0).sqrt()
    aim = rest * share / (1 - share.square()).sqrt()
    return torch.where(aimed > aim, aim / aimed, 1.0)


def _chosen_of(target: Target, together: Together) -> torch.Tensor:
    """Return what is targeted of the part of a parameter that this process counts, in one dimension."""
    if target.chosen.dtype != torch.bool:
        return target.parameter.detach().index_select(0, target.chosen).reshape(-1)
    weight, chosen = together.own(target.parameter), together.own(target.chosen)
    return torch.where(chosen, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))
