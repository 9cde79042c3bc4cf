"""The pull under Adam: after the optimizer's step, as long as a step of the optimizer, and never past zero.

Adam divides a gradient by its usual size. A pull that is added to the gradient enters this size, too. Measured with
Adam's usual moments: a weight that is pulled in a single step, by ``a mu w`` of any size far above its gradients, moves
by 31 rates, past zero if it is smaller, and hardly learns for a thousand steps after it, because its second moment
remembers the pull. Weights near the threshold of the targets are pulled in some steps and not in others, and suffer
most. And weights that are pulled all the time come to rest at about the size of the rate, not at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from swdc.ir.distributed import local
from swdc.sparsity.penalties.strengths import Strengths
from swdc.sparsity.selection.bitwise_where import where
from swdc.sparsity.selection.cache_blocks import pieces
from swdc.sparsity.targets import Target


class AdaptivePenalty:
    """Takes from each targeted weight, after Adam's step, what its own step under the pull would take, and no more.

    A weight ``w`` under the pull ``p = a mu |w|`` (for another norm than L2, with its gradient in place of ``w``) loses
    ``lr / (1 - beta1) * p / sqrt(p^2 + v)`` of its magnitude, down to zero. ``v`` is the second moment of its gradients
    as Adam corrects it, without the pull. As long as ``p`` is small beside ``sqrt(v)``, this is Adam's step for the
    gradient ``p``, times the ``1 / (1 - beta1)`` by which momentum adds steps up under SGD. A strong pull takes
    ``lr / (1 - beta1)`` in a step, whatever ``a`` is. The moments are those of the loss alone.
    """

    def __init__(
        self, gradient: Callable[[torch.Tensor], torch.Tensor], strengths: Strengths, optimizer: Optimizer
    ) -> None:
        self._gradient, self._strengths, self._optimizer = gradient, strengths, optimizer
        self._due: tuple[Sequence[Target], float] = ((), 0.0)

    def act(self, targets: Sequence[Target], strength: float) -> None:
        """Note what to pull; this replaces what was noted for a step that was then skipped."""
        self._due = targets, strength

    def follow(self) -> None:
        """Pull the noted targets, once; those that the optimizer has never moved stay."""
        (targets, a), self._due = self._due, ((), 0.0)
        if not targets:
            return
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        for pulled in self._strengths.of(targets, a):
            for target in pulled.targets:
                group, state = groups[id(target.parameter)], self._optimizer.state.get(target.parameter, {})
                if "exp_avg_sq" in state:
                    self._shrink(target, _second_moment(group, state), _length(group), pulled.strength)

    def _shrink(self, target: Target, moments: tuple[torch.Tensor, float], length: float, strength: float) -> None:
        squares, correction = moments
        for some, chosen, square in pieces(local(target.parameter.detach()), local(target.chosen), squares):
            weight = some.float() if some.element_size() < 4 else some
            weight = weight - target.rest
            pull = self._gradient(weight) * strength
            usual = (pull.square() + square.to(pull.dtype) / correction).sqrt_()
            most = (pull.abs_() * length / usual.clamp_(min=torch.finfo(pull.dtype).tiny)).minimum(weight.abs())
            some.copy_(where(chosen, weight - weight.sign() * most + target.rest, some))


def _second_moment(group: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[torch.Tensor, float]:
    """Return what stands for the squares of gradients, and the correction that it is to be divided by."""
    squares = state["max_exp_avg_sq"] if group.get("amsgrad", False) else state["exp_avg_sq"]
    return local(squares), 1 - float(group["betas"][1]) ** float(state["step"])


def _length(group: Mapping[str, Any]) -> float:
    return float(group["lr"]) / (1 - float(group["betas"][0]))
