"""Extrema over channels: the slim program counts removed channels as zeros, which the user's own code does not."""

import inspect
from collections.abc import Callable

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


class Extreme(nn.Module):
    """Takes an extremum over channels in the forward of the model itself."""

    def __init__(self, kind: str, before: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.kind, self.before = kind, before
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.before(self.b(self.a(x).relu()))
        return self.c(getattr(h, self.kind)(1, keepdim=True))


def _halved(model: nn.Module, *example: torch.Tensor) -> swdc.Program:
    program = swdc.trace(model.eval(), *example)
    return swdc.slim(program, swdc.plan(program, 0.5))


@pytest.mark.parametrize("seed", range(6))
def test_a_module_that_forgets_the_zero_is_replaced(seed):
    model, slim = _slim(nn.Identity(), seed)
    with pytest.warns(UserWarning, match=r"replaced by their part of the slim program: 2 \(Gate\)"):
        mine = swdc.transplant(slim, model)
    x = torch.randn(256, 3, 3, dtype=torch.float64)
    assert relative_error(slim(x), mine(x)) <= 1e-12


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["amin", "amax"])
def test_code_that_forgets_the_zero_is_not_taken(kind, seed):
    torch.manual_seed(seed)
    model = Extreme(kind, lambda h: h)
    line = inspect.getsourcelines(Extreme.forward)[1] + 2
    side = "negative" if kind == "amax" else "positive"
    with pytest.raises(TransplantError, match=rf"may all be {side}: .*test_extrema.py:{line}; apply .*relu"):
        swdc.transplant(_halved(model, torch.randn(4, 3)), model)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "before"), [("amax", torch.square), ("amin", lambda h: -h.relu().softmax(1) * h.abs())]
)
def test_code_in_which_the_zero_never_counts_is_taken(kind, before):
    model = Extreme(kind, before)
    slim = _halved(model, torch.randn(4, 3))
    mine, x = swdc.transplant(slim, model), torch.randn(256, 3)
    assert relative_error(slim.eval()(x), mine.eval()(x)) <= 1e-5


def test_code_that_sees_no_negative_channel_is_taken():
    model, slim = _slim(nn.ReLU(), 0)
    mine = swdc.transplant(slim, model)
    x = torch.randn(64, 3, 3, dtype=torch.float64)
    assert relative_error(slim(x), mine(x)) <= 1e-12
