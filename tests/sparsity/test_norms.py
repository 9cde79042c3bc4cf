"""Norms of the penalty: gradients compared with autograd, proximal maps with a search."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from swdc.errors import PlanError
from swdc.sparsity.penalties.norms import L1, L2, NORMS, SMOOTH_L1, Norm, find_norm

WEIGHTS = torch.tensor([-7.0, -2.1, -1.4, -0.9, -1e-3, 0.0, 1e-9, 0.5, 0.999, 1.3, 1.6, 30.0], dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_gradient_is_that_of_autograd(norm: Norm) -> None:
    weights = WEIGHTS.clone().requires_grad_()
    (expected,) = torch.autograd.grad(norm.value(weights).sum(), weights)
    torch.testing.assert_close(norm.gradient(WEIGHTS), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("t", [0.0, 0.05, 0.7, 3.0, 40.0])
def test_proximal_map_costs_least(norm: Norm, t: float) -> None:
    assert norm.proximal is not None
    found = norm.proximal(WEIGHTS, t)

    def cost(v: torch.Tensor) -> torch.Tensor:
        return (v - WEIGHTS) ** 2 / 2 + t * norm.value(v)

    others = torch.linspace(-31, 31, 24801, dtype=torch.float64)[:, None]
    least = torch.minimum(cost(others).min(0).values, cost(torch.zeros_like(WEIGHTS)))
    assert (cost(found) <= least + 1e-12 * (1 + least)).all()


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_proximal_map_is_a_gradient_step_to_first_order(norm: Norm) -> None:
    assert norm.proximal is not None
    away = WEIGHTS[WEIGHTS.abs() > 0.1]
    errors = [(norm.proximal(away, t) - (away - t * norm.gradient(away))).abs().max() for t in (1e-3, 1e-4)]
    assert errors[0] <= 1e-4
    assert errors[1] <= 1.1e-2 * errors[0] + 1e-15


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_proximal_map_stays_finite_at_any_strength(norm: Norm) -> None:
    assert norm.proximal is not None
    found = norm.proximal(WEIGHTS.float(), 1e12)
    assert found.isfinite().all()
    assert found.abs().max() < 1e-6
    torch.testing.assert_close(norm.proximal(WEIGHTS, torch.tensor(0.5)), norm.proximal(WEIGHTS, 0.5))


def test_values_by_hand() -> None:
    weights = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert L2.value(weights).tolist() == [2.0, 0.125, 0.0, 0.125, 2.0]
    assert L1.value(weights).tolist() == [2.0, 0.5, 0.0, 0.5, 2.0]
    assert SMOOTH_L1.value(weights).tolist() == [2.0, 0.25, 0.0, 0.25, 2.0]


def cubed(weights: torch.Tensor) -> torch.Tensor:
    return weights.abs() ** 3 / 3


@pytest.mark.parametrize("norm", [cubed, lambda w: cubed(w).sum()], ids=["values", "a sum"])
def test_a_function_as_norm(norm: Callable[[torch.Tensor], torch.Tensor]) -> None:
    found = find_norm(norm)
    with torch.no_grad():
        gradient = found.gradient(WEIGHTS)
    torch.testing.assert_close(gradient, WEIGHTS * WEIGHTS.abs(), rtol=1e-14, atol=0)
    assert not gradient.requires_grad
    assert found.proximal is None
    assert find_norm(found) is found


def test_bad_norms_are_refused() -> None:
    for bad in ("l3", 2):
        with pytest.raises(PlanError, match=r"expected a norm of \['l1', 'l2', 'smooth_l1'\], a Norm, or a function"):
            find_norm(bad)  # type: ignore[arg-type]
