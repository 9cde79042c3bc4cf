"""Transplanting models that compute in evaluation what nothing uses."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from tests.support import assert_same, conv, image, random_plan, randomise


class Heads(nn.Module):
    """Runs heads beside the one that it returns, as networks with deep supervision do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = conv(3, 16), conv(16, 16), nn.Conv2d(16, 4, 1)
        self.aux = nn.Sequential(
            nn.Conv2d(16, 16, 3, groups=16), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.GroupNorm(4, 32)
        )
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.a(x).relu()
        aside = self.aux(y).flatten(2).mean(-1).view(-1, 4, 8).sum(1), self.last(y)
        found = self.out(self.b(y).relu())
        return (found, *aside) if self.training else found


class Loss(nn.Module):
    """Computes a loss with weights of its own, and drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.out = conv(3, 16), nn.Conv2d(16, 4, 1)
        self.mix = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: torch.Tensor) -> Any:
        y = self.a(x).relu()
        loss = (y.mean((2, 3)) @ self.mix - y.amax((2, 3))).square().mean()
        found = self.out(y)
        return (found, loss) if self.training else found


@pytest.mark.parametrize("kind", [Heads, Loss])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_unused_parts_are_cut(kind: type[nn.Module], dtype: torch.dtype) -> None:
    model = randomise(kind()).eval().to(dtype)
    x = image(2, 3, 8, 8).to(dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "what the model computes in training")
        program = swdc.trace(model, x)
    slim = swdc.slim(program, random_plan(program))
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    mine = swdc.transplant(slim, model)
    assert_same(slim(x), mine(x), 1e-12 if dtype == torch.float64 else 1e-5)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before
    result = mine.train()(x)
    assert isinstance(result, tuple)
    sum(one.square().mean() for one in result).backward()
    cut = [name for name, tensor in mine.named_parameters() if tensor.shape != before[name]]
    assert {"aux.0.weight", "last.weight"} <= set(cut) if kind is Heads else "mix" in cut


def test_parts_that_are_not_run_stay_whole() -> None:
    class Spare(Loss):
        def forward(self, x: torch.Tensor) -> Any:
            return self.out(self.a(x).relu())

    model = randomise(Spare()).eval()
    program = swdc.trace(model, image(2, 3, 8, 8))
    with pytest.warns(UserWarning, match="not read in evaluation and kept as they are.*mix"):
        mine = swdc.transplant(swdc.slim(program, random_plan(program)), model)
    assert mine.mix.shape == (16, 16)
