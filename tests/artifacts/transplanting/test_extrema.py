"""Extrema over channels: the slim program counts removed channels as zeros, which the user's own code does not."""

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import TransplantError
from swdc.ir.differences import relative_error


class Gate(nn.Module):
    """Multiplies with the largest of all channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.max(1, keepdim=True)[0]


def _slim(activation: nn.Module, seed: int) -> tuple[nn.Module, swdc.Program]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv1d(3, 8, 1, bias=False), activation, Gate(), nn.Flatten(), nn.Linear(24, 3))
    model = model.double().eval()
    program = swdc.trace(model, torch.randn(2, 3, 3, dtype=torch.float64))
    return model, swdc.slim(program, swdc.plan(program, 0.25))


@pytest.mark.parametrize("seed", range(6))
def test_code_that_forgets_the_zero_is_not_taken(seed):
    model, slim = _slim(nn.Identity(), seed)
    with pytest.raises(TransplantError, match="all channels are negative"):
        swdc.transplant(slim, model)


def test_code_that_sees_no_negative_channel_is_taken():
    model, slim = _slim(nn.ReLU(), 0)
    mine = swdc.transplant(slim, model)
    x = torch.randn(64, 3, 3, dtype=torch.float64)
    assert relative_error(slim(x), mine(x)) <= 1e-12
