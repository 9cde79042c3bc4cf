"""The scores of single weights, and what a criterion remembers of earlier steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from swdc.errors import PlanError
from swdc.sparsity.weight_criteria import name_of, reads_gradients


class Scoring:
    """Scores parameters by a saliency (``swdc.sparsity.weight_criteria``).

    A saliency of the weight alone is evaluated whenever scores are needed. A saliency that reads gradients is evaluated
    by ``observe``, once a step. Its scores hold until the next step; nothing else is remembered.
    """

    def __init__(self, saliency: Callable[..., Any], parameters: Mapping[str, nn.Parameter]) -> None:
        self.saliency, self.name = saliency, name_of(saliency)
        self._parameters = dict(parameters)
        self._observes = reads_gradients(saliency)
        self._scores: dict[str, torch.Tensor] = {}

    def observe(self) -> None:
        """Score the parameters by their gradients; call before anything is added to the gradients of the loss."""
        if self._observes:
            self._observe()

    @torch.no_grad()
    def _observe(self) -> None:
        for name, parameter in self._parameters.items():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self._scores[name] = self._checked(
                name, self.saliency(parameter.detach(), gradient, self._scores.get(name))
            )

    def of(self, name: str) -> torch.Tensor:
        """Return the scores of a parameter; before the first step of a saliency that reads gradients, its magnitude."""
        if name in self._scores:
            return self._scores[name]
        weight = self._parameters[name].detach()
        return weight.abs() if self._observes else self._checked(name, self.saliency(weight))

    def _checked(self, name: str, scores: torch.Tensor) -> torch.Tensor:
        shape = self._parameters[name].shape
        if not isinstance(scores, torch.Tensor) or scores.shape != shape:
            raise PlanError(
                f"expected scores of shape {tuple(shape)} for {name} from the criterion {self.name}, got "
                f"{tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__}"
            )
        return scores

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return copies of the remembered scores by parameter name; empty for a saliency of the weight alone."""
        return {name: scores.clone() for name, scores in self._scores.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue with scores that ``state_dict`` returned; ``PlanError`` if they are of other parameters."""
        unfit = [n for n, s in state.items() if n not in self._parameters or s.shape != self._parameters[n].shape]
        if unfit:
            raise PlanError(
                f"expected scores of the parameters of this model, got others for {', '.join(unfit[:3])}; load the "
                f"state of a run of the same model"
            )
        self._scores = {n: s.to(self._parameters[n].device, copy=True) for n, s in state.items()}
