"""Models whose own code writes to parameters, or draws random numbers: nothing is captured that is another function."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import swdc
from swdc.errors import TraceError
from tests.support import Function, image, randomise

X = image(4, 3)


class Merging(nn.Linear):
    """Adds a product of two factors to its weight while it is in evaluation, as adapters of low rank do."""

    def __init__(self, past_torch: bool) -> None:
        super().__init__(3, 16)
        self.one, self.two = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(16, 2))
        self.merged, self.past_torch = False, past_torch

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.merged:
            weight = self.weight.data if self.past_torch else self.weight
            with torch.no_grad():
                weight.add_(self.two @ self.one, alpha=-1.0 if mode else 1.0)
            self.merged = not mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if self.merged else y + F.linear(F.linear(x, self.one), self.two)


@pytest.mark.filterwarnings("ignore:what 0 computes in training differs")
@pytest.mark.parametrize("past_torch", [True, False])
def test_a_model_that_changes_its_weights_between_modes(past_torch: bool) -> None:
    model = nn.Sequential(Merging(past_torch), nn.ReLU(), nn.Linear(16, 4)).double()
    before, wanted = {name: t.clone() for name, t in model.state_dict().items()}, model(X)
    with pytest.raises(TraceError, match=r"Merging.train changes 0.weight; call model.eval\(\)"):
        swdc.trace(model, X)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.training
    assert not model[0].merged
    assert torch.equal(model(X), wanted)
    wanted = model.eval()(X)
    program = swdc.trace(model, X)
    assert torch.equal(model(X), wanted)
    assert torch.allclose(program.eval()(X), wanted)


WRITES: dict[str, Callable[[torch.Tensor], Any]] = {
    "clamp": lambda weight: weight.data.clamp_(-0.05, 0.05),
    "norm": lambda weight: weight.data.div_(weight.data.norm()),
    "less and less": lambda weight: weight.data.mul_(0.5),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_forward_that_writes_to_its_weights_past_torch(write: Callable[[torch.Tensor], Any]) -> None:
    def code(m: Any, x: torch.Tensor) -> torch.Tensor:
        write(m.a.weight)
        return m.b(m.a(x).relu())

    model = randomise(Function(code, a=nn.Linear(3, 8), b=nn.Linear(8, 2))).eval()
    before = model.a.weight.detach().clone()
    with pytest.raises(TraceError, match=r"writes to a.weight through .data"):
        swdc.trace(model, X)
    assert torch.equal(model.a.weight, before)


def _torch_noise(x: torch.Tensor) -> torch.Tensor:
    return x + 1e-3 * torch.randn_like(x)


NOISES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a number of Python": lambda x: _torch_noise(x * random.random()),
    "a way of Python": lambda x: x if random.random() < 0.5 else -x,
    "an array of numpy": lambda x: _torch_noise(x + torch.from_numpy(np.random.rand(*x.shape))),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_random_numbers_that_do_not_come_from_torch(noise: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = randomise(Function(lambda m, x: noise(m.b(m.a(x).relu())), a=nn.Linear(3, 8), b=nn.Linear(8, 2))).eval()
    with pytest.raises(TraceError, match="draws them in Python or NumPy"):
        swdc.trace(model, X)


def test_random_numbers_do_not_excuse_a_difference() -> None:
    def code(m: Any, x: torch.Tensor) -> torch.Tensor:
        m.offset.data = torch.full((8,), 5.0, dtype=torch.float64)
        return _torch_noise(m.b((m.a(x) + m.offset).relu()))

    parts = {"a": nn.Linear(3, 8), "b": nn.Linear(8, 2), "offset": torch.zeros(8, dtype=torch.float64)}
    with pytest.raises(TraceError):
        swdc.trace(randomise(Function(code, **parts)).eval(), X)


def test_a_program_that_draws_from_torch_is_captured() -> None:
    model = randomise(Function(lambda m, x: _torch_noise(m.b(m.a(x).relu())), a=nn.Linear(3, 8), b=nn.Linear(8, 2)))
    program = swdc.trace(model.eval(), X)
    assert not torch.equal(program(X), program(X))
