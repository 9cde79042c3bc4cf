"""Transplanted models at sizes other than the example's: right, or refused, or a warning says where they differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.transplanting.masked_model import masked_model
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.errors import InputError
from tests.artifacts.transplanting.models import DerivedAttention, HandNorm
from tests.support import assert_same, image, random_plan, randomise


class Mixing(nn.Module):
    """Reads a map whose channels lie last as one whose channels lie first, so that sizes decide what goes together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.a(x).relu()
        return self.c(x + self.b(x).flatten(2).transpose(1, 2).reshape(x.shape))


def slim_and_mine(model: nn.Module, example: torch.Tensor) -> tuple[nn.Module, nn.Module]:
    """Return the masked and the transplanted model."""
    program = swdc.trace(randomise(model).eval(), example)
    assert program.groups
    plan = random_plan(program)
    slim = swdc.slim(program, plan)
    return masked_model(model, program, slim), swdc.transplant(slim, model)


def test_positions_that_are_mixed_with_channels_are_named() -> None:
    model, example = randomise(Mixing()).eval(), image(2, 3, 2, 2)
    assert swdc.trace(model, example).groups == ()  # which of them go together depends on height and width
    program = swdc.trace(model, example, dynamic=["batch"])
    slim = swdc.slim(program, random_plan(program))
    with pytest.warns(UserWarning, match=r"computes something else at \(1, 3"):
        mine = swdc.transplant(slim, model)
    assert_same(slim(example), mine(example))


class Tiled(nn.Module):
    """Treats long inputs in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.a(x)
        return self.b(x.relu() if x.shape[1] < 50 else x.softmax(-1))


def test_code_beyond_the_bound_of_the_program_is_tried() -> None:
    with pytest.warns(UserWarning, match=r"computes something else at \(2, 50, 8\)"):
        slim_and_mine(Tiled(), image(2, 5, 8))


def test_a_replaced_module_refuses_sizes_that_it_does_not_know() -> None:
    model = nn.Sequential(DerivedAttention(), nn.Linear(12, 3))
    with pytest.warns(UserWarning, match="replaced by their part of the slim program"):
        masked, mine = slim_and_mine(model, image(2, 6, 12))
    assert_same(masked(image(3, 6, 12)), mine(image(3, 6, 12)))
    part = next(module for module in mine.modules() if isinstance(module, Extracted))
    if not part.has_fixed_sizes:
        assert_same(masked(image(3, 7, 12)), mine(image(3, 7, 12)))
    part.fix_sizes()
    with pytest.raises(InputError, match=r"of the sizes of the example, \(any, \w+, \d+\), got \(3, 6, 13\)"):
        part(image(3, 6, 13))


def test_a_replaced_module_without_sizes_takes_any() -> None:
    model = nn.Sequential(nn.Linear(6, 10), HandNorm(10), nn.Linear(10, 3))
    with pytest.warns(UserWarning, match="replaced by their part of the slim program: 1"):
        masked, mine = slim_and_mine(model, image(2, 5, 6))
    assert_same(masked(image(3, 8, 6)), mine(image(3, 8, 6)))


class SpatialReduction(nn.Module):
    """Attention over a map whose height and width are given as numbers; its scale is that of its one whole head."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 16
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.reduce, self.norm = nn.Conv2d(16, 16, 2, stride=2), nn.LayerNorm(16)

    def forward(self, x: torch.Tensor, height: int, width: int) -> Any:
        batch, length, channels = x.shape
        query = self.query(x).view(batch, length, 1, self.size).transpose(1, 2)
        x = self.reduce(x.transpose(1, 2).reshape(batch, channels, height, width)).flatten(2).transpose(1, 2)
        x = self.norm(x)
        key, value = (layer(x).view(*x.shape[:2], 1, self.size).transpose(1, 2) for layer in (self.key, self.value))
        found = (query @ key.transpose(-1, -2) / self.size**0.5).softmax(-1) @ value
        return self.out(found.transpose(1, 2).reshape(batch, length, channels))


class Pyramid(nn.Module):
    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told, self.stem, self.attention, self.head = (
            told,
            nn.Conv2d(3, 16, 1),
            SpatialReduction(),
            nn.Linear(16, 3),
        )

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        height, width = x.shape[-2:] if self.told else (8, 8)
        x = x.flatten(2).transpose(1, 2)
        return self.head(x + self.attention(x, height, width))


@pytest.mark.parametrize(("sizes", "told"), [((8, 8), True), ((8, 4), True), ((8, 8), False)])
def test_a_replaced_module_takes_sizes_that_it_is_given_as_numbers(sizes: tuple[int, int], told: bool) -> None:
    with pytest.warns(UserWarning, match="replaced by their part of the slim program: attention"):
        masked, mine = slim_and_mine(Pyramid(told), image(2, 3, *sizes))
    assert isinstance(mine.attention, Extracted)
    assert not mine.attention.has_fixed_sizes
    for others in ((8, 8), (4, 12), (10, 6)) if told else ((8, 8),):
        assert_same(masked(image(3, 3, *others)), mine(image(3, 3, *others)))
