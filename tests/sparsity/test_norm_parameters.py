"""Gains and shifts of norms that are not torch's: found by what code does with them, in programs and plain modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.sparsity.norm_parameters import ids_in_norms


class Rms(nn.Module):
    def __init__(self, size: int, offset: float = 0.0) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.rand(size) + 0.5), offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gain.dtype in (torch.float16, torch.bfloat16) or self.gain.dim() > 1:
            x = x.to(self.gain.dtype)
        normal = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        return normal.to(x.dtype) * (self.offset + self.gain if self.offset else self.gain)


class OverChannels(nn.Module):
    """A layer norm over the second dimension, written out, and its copy through torch's function."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(size)), nn.Parameter(torch.rand(size))
        self.scale, self.shift = nn.Parameter(torch.rand(size)), nn.Parameter(torch.rand(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        x = self.weight[:, None, None] * x + self.bias[:, None, None]
        turned = functional.layer_norm(x.permute(0, 2, 3, 1), self.scale.shape, self.scale, bias=self.shift)
        return turned.permute(0, 3, 1, 2)


class Block(nn.Module):
    """A layer scale beside a layer that it holds; the buffer and the list that it writes must stay as they are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner, self.layer_scale = nn.Linear(size, size), nn.Parameter(torch.full((size,), 1e-6))
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[object] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(x)
        return x + self.inner(x).mul_(self.layer_scale)


class Weights(nn.Module):
    """Vectors that are weights: of a layer of one output written as a sum, an embedding, an own bias."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.row, self.token = nn.Parameter(torch.rand(size)), nn.Parameter(torch.rand(1, 1, size))
        self.bias, self.matrix = nn.Parameter(torch.rand(size)), nn.Parameter(torch.rand(size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.row).sum(-1, keepdim=True)
        wide = (x.unsqueeze(-2) * self.matrix).sum(-1) + self.bias
        return wide + score + self.token


class Undecided(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain if x.sum() > 0 else x


CASES = {
    "rms": (Rms(6), (2, 3, 6), {"gain"}),
    "rms, 1 + gain": (Rms(6, 1.0), (2, 3, 6), {"gain"}),
    "over channels": (OverChannels(4), (2, 4, 3, 3), {"weight", "bias", "scale", "shift"}),
    "layer scale": (Block(5), (2, 3, 5), {"layer_scale"}),
    "weights": (Weights(4), (2, 3, 4), set()),
}


@pytest.mark.filterwarnings("ignore:the model changes the length of a list")
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gains_and_shifts_are_those_that_only_scale_and_shift(name: str, traced: bool) -> None:
    module, shape, expected = CASES[name]
    module = copy.deepcopy(module)
    model: nn.Module = swdc.trace(module, torch.randn(shape)) if traced else module
    before = torch.get_rng_state()
    found = ids_in_norms(model)
    assert {key for key, p in model.named_parameters() if id(p) in found} == expected
    assert torch.equal(torch.get_rng_state(), before)
    if isinstance(module, Block) and not traced:
        assert module.calls == 0
        assert module.seen == []


def test_what_cannot_be_traced_is_a_weight() -> None:
    assert not ids_in_norms(Undecided(3))


def test_a_product_of_parameters_alone_has_no_gain() -> None:
    class Directions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size, self.direction = nn.Parameter(torch.rand(4, 1)), nn.Parameter(torch.rand(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x, self.size * self.direction)

    assert not ids_in_norms(Directions())


def test_a_mean_over_other_dimensions_sums_no_gain() -> None:
    class Pooled(nn.Module):
        def __init__(self, *dims: int) -> None:
            super().__init__()
            self.gain, self.dims = nn.Parameter(torch.rand(4)), dims

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * self.gain).mean(self.dims)

    x = torch.randn(2, 3, 4)
    assert ids_in_norms(Pooled(-2))
    assert not ids_in_norms(Pooled(-1))
    assert not ids_in_norms(Pooled(1))  # of a module alone, nothing tells how many dimensions there are
    assert ids_in_norms(swdc.trace(Pooled(1), x))
    assert not ids_in_norms(swdc.trace(Pooled(2), x))


def test_swd_leaves_them_out_of_the_share() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), Rms(6), Block(6))
    method = swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1)
    assert {t.name for t in method.targeted()} == {"0.weight", "2.inner.weight", "2.inner.bias"}
    assert sum(int(t.chosen.sum()) for t in method.targeted()) == (36 + 42) // 2
    everything = swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1, norms=True)
    assert sum(int(t.chosen.sum()) for t in everything.targeted()) == (36 + 42 + 12) // 2
