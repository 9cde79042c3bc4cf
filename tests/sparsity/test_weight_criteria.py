"""Scores of single weights, and what is remembered of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.sparsity.targets.weight_scores import Scoring
from swdc.sparsity.weight_criteria import SALIENCIES, find_saliency, gradient_weight, magnitude, movement


def parameter(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def stepped(scoring: Scoring, weight: nn.Parameter, steps: int, first: int = 0) -> torch.Tensor:
    """Walk, and return the sum of -w g over the steps."""
    moved = torch.zeros_like(weight)
    for step in range(first, first + steps):
        weight.grad = parameter(10 + step).detach()
        moved -= weight.detach() * weight.grad
        scoring.observe()
        with torch.no_grad():
            weight -= 0.1 * weight.grad
    return moved


def test_magnitude_is_that_of_the_weights_as_they_are() -> None:
    weight = parameter()
    scoring = Scoring(magnitude, {"w": weight})
    with torch.no_grad():
        weight.mul_(-2)
    assert torch.equal(scoring.of("w"), weight.detach().abs())
    assert scoring.state_dict() == {}


def test_gradient_times_weight_is_that_of_the_last_step() -> None:
    weight = parameter()
    scoring = Scoring(gradient_weight, {"w": weight})
    assert torch.equal(scoring.of("w"), weight.detach().abs())  # before the first step there are no gradients
    stepped(scoring, weight, 2)
    before = weight.detach() + 0.1 * weight.grad
    torch.testing.assert_close(scoring.of("w"), (before * weight.grad).abs(), rtol=1e-14, atol=0)
    weight.grad = None
    scoring.observe()
    assert not scoring.of("w").any()


def test_movement_sums_over_all_steps_and_goes_on_exactly() -> None:
    weight, other = parameter(), parameter()
    whole, first = Scoring(movement, {"w": weight}), Scoring(movement, {"w": other})
    expected = stepped(whole, weight, 7)
    torch.testing.assert_close(whole.of("w"), expected, rtol=1e-12, atol=0)
    stepped(first, other, 3)
    state = first.state_dict()
    stepped(first, other, 1)  # what is saved stays as it was
    again = parameter()
    resumed = Scoring(movement, {"w": again})
    stepped(Scoring(magnitude, {"w": again}), again, 3)
    resumed.load_state_dict(state)
    stepped(resumed, again, 4, first=3)
    assert torch.equal(resumed.of("w"), whole.of("w"))


def test_state_of_another_model_is_refused() -> None:
    scoring = Scoring(movement, {"w": parameter()})
    for state in ({"v": torch.zeros(3, 4)}, {"w": torch.zeros(4, 4)}):
        with pytest.raises(PlanError, match="expected scores of the parameters of this model, got others for"):
            scoring.load_state_dict(state)


def test_functions_as_criteria() -> None:
    weight = parameter()
    assert torch.equal(Scoring(find_saliency(torch.square), {"w": weight}).of("w"), weight.detach().square())

    def smoothed(weight: torch.Tensor, gradient: torch.Tensor, before: Any) -> torch.Tensor:
        return (weight * gradient).abs() if before is None else 0.9 * before + 0.1 * (weight * gradient).abs()

    scoring = Scoring(find_saliency(smoothed), {"w": weight})
    weight.grad = torch.ones_like(weight)
    scoring.observe()
    scoring.observe()
    torch.testing.assert_close(scoring.of("w"), weight.detach().abs(), rtol=1e-14, atol=0)


def test_bad_criteria_are_refused() -> None:
    for bad in ("l2", 3):
        with pytest.raises(PlanError, match=r"expected a criterion of \['gradient_weight', 'magnitude', 'movement'\]"):
            find_saliency(bad)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"one argument \(weight\) or of three .* got 2 arguments"):
        find_saliency(lambda weight, gradient: weight)
    with pytest.raises(PlanError, match=r"expected scores of shape \(3, 4\) for w .* got \(\)"):
        Scoring(torch.sum, {"w": parameter()}).of("w")
    assert [find_saliency(name) for name in SALIENCIES] == list(SALIENCIES.values())
