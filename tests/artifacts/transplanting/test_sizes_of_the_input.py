"""Blocks that read a width from their input, and use it for what a layer of their own returns, with fewer channels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.errors import TransplantError
from tests.support import assert_same, random_plan, randomise

pytestmark = pytest.mark.filterwarnings("ignore:replaced by their part")


class Spatial(nn.Module):
    """Latent diffusion's transformer over positions: the width of the sequence is read before a layer that is cut."""

    def __init__(self, width: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.i, self.o, self.norm = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1), norm or nn.Identity()
        self.f = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x):
        b, d, h, w = x.shape
        y = self.i(self.norm(x)).permute(0, 2, 3, 1).reshape(b, h * w, d)
        y = y + self.f(y)
        return self.o(y.reshape(b, h, w, d).permute(0, 3, 1, 2)) + x


class Windowed(nn.Module):
    """Swin's block: the width of the windows is that of the block's input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads, self.norm = 2, nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, h, w, c = x.shape
        y = self.norm(x).view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = self.out((q @ k.mT).softmax(-1).matmul(v).transpose(1, 2).reshape(-1, 4, c))
        return x + y.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


class Last(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)


def chain(*blocks: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks)


def diffusion() -> nn.Module:
    return chain(Spatial(16, nn.GroupNorm(4, 16)), nn.ReLU(), Spatial(16), nn.Conv2d(16, 3, 1))


def windows() -> nn.Module:
    return chain(Last(), Windowed(16), Windowed(16), nn.Linear(16, 3))


class Whole(Spatial):
    """The code of the model itself."""

    def __init__(self) -> None:
        super().__init__(16)
        self.first = nn.Conv2d(3, 16, 1)

    def forward(self, x):
        return super().forward(self.first(x))


@pytest.mark.parametrize("make", [diffusion, windows])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_such_a_block_is_replaced_by_its_part_at_every_size(make, seed) -> None:
    model = randomise(make(), seed).eval()
    program = swdc.trace(model, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    plan = random_plan(program, seed)
    slim, masked = swdc.slim(program, plan), swdc.mask(program, plan)
    mine = swdc.transplant(slim, model)
    assert any(isinstance(module, Extracted) for module in mine.children())
    for shape in ((2, 8, 8), (1, 8, 8), (3, 4, 16), (2, 12, 6)):
        x = torch.randn(shape[0], 3, *shape[1:], dtype=torch.float64)
        assert_same(masked(x), mine(x))
        assert_same(slim.train()(x), mine.train()(x))
        slim.eval()
        mine.eval()


def test_of_the_model_itself_the_message_says_so() -> None:
    model = randomise(Whole()).eval()
    program = swdc.trace(model, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    slim = swdc.slim(program, random_plan(program, 1))
    with pytest.raises(TransplantError, match=r"test_sizes_of_the_input.py:\d+ gives .* \(Whole is the whole model"):
        swdc.transplant(slim, model)
