"""Models that keep what is for one size, with the size: both stay together, whatever ran since the model was traced."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.transplanting.comparison import Comparison
from swdc.errors import TransplantError
from tests.support import assert_same

OTHERS = ((1, 4, 16), (3, 8, 4), (2, 16, 8), (1, 16, 16))


class Positions(nn.Module):
    """Adds numbers of the positions, which it keeps with what ``key`` says of them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.prepare()

    def prepare(self) -> None:
        """Make the place of what is kept."""

    def forward(self, x):
        y = self.b(torch.relu(self.a(x)))
        return y.flatten(2) + self.at(y)

    def made(self, y):
        h, w = y.shape[2:]
        return (torch.arange(h, dtype=y.dtype)[:, None] * 100 + torch.arange(w, dtype=y.dtype)).flatten()


class BySize(Positions):
    """The key is a torch.Size, and its tensor is never missing."""

    shape: Any = None

    def prepare(self):
        self.kept = torch.empty(0)

    def at(self, y):
        if self.shape != y.shape:
            self.kept, self.shape = self.made(y), y.shape
        return self.kept


class ByNumbers(Positions):
    """Two attributes are the key, and each may be what it was in the last run."""

    def prepare(self):
        self.h, self.w, self.kept = 0, 0, None

    def at(self, y):
        h, w = y.shape[2:]
        if self.h != h or self.w != w:
            self.kept, self.h, self.w = self.made(y), h, w
        return self.kept


class InDict(Positions):
    """A dict holds the key and the tensor."""

    def prepare(self):
        self.held: dict[str, Any] = {"h": None, "w": None}

    def at(self, y):
        h, w = y.shape[2:]
        if (self.held["h"], self.held["w"]) != (h, w):
            self.held.update(h=h, w=w, kept=self.made(y))
        return self.held["kept"]


class InList(Positions):
    """A list holds the key and the tensor, and is replaced item by item."""

    def prepare(self):
        self.held = [0, 0, torch.empty(0)]

    def at(self, y):
        h, w = y.shape[2:]
        if self.held[:2] != [h, w]:
            self.held[:] = [h, w, self.made(y)]
        return self.held[2]


class InObject(Positions):
    """An object that is no module holds the key and the tensor."""

    def prepare(self):
        self.held = SimpleNamespace(shape=None, kept=torch.empty(0))

    def at(self, y):
        if self.held.shape != y.shape[2:]:
            self.held.shape, self.held.kept = y.shape[2:], self.made(y)
        return self.held.kept


KINDS = (BySize, ByNumbers, InDict, InList, InObject)
every = pytest.mark.parametrize("kind", KINDS)
"""Sizes at which a model ran, of which one or both are widths that its layers lose (16), or get (8)."""
ran = pytest.mark.parametrize("size", [(2, 4, 16), (1, 16, 4), (2, 16, 8), (2, 8, 16), (2, 8, 8)])


def used(kind: Callable[[], nn.Module], size: tuple[int, ...]) -> tuple[nn.Module, swdc.Program]:
    """Return a model that ran at another size after it was traced at 8 x 8, and its slim program."""
    torch.manual_seed(0)
    model = kind().eval()
    program = swdc.trace(model, torch.randn(2, 3, 8, 8))
    with torch.no_grad():
        model(torch.randn(size[0], 3, *size[1:]))
    return model, swdc.slim(program, swdc.plan(program, 0.5))


@every
@ran
def test_each_size_has_its_own_tensor_in_the_copy(kind, size) -> None:
    model, slim = used(kind, size)
    mine = swdc.transplant(slim, model)
    other = copy.deepcopy(mine)
    for one, shape in ((other, (2, 8, 8)), (mine, size), *((mine, each) for each in OTHERS)):
        x = torch.randn(shape[0], 3, *shape[1:])
        with torch.no_grad():
            assert_same(slim.eval()(x), one.eval()(x), 1e-6)
            assert_same(slim.train()(x), one.train()(x), 1e-6)


@every
def test_the_model_keeps_what_it_had(kind) -> None:
    model, slim = used(kind, (1, 4, 16))
    swdc.transplant(slim, model)
    x = torch.randn(1, 3, 4, 16)
    with torch.no_grad():
        assert_same(kind.forward(model, x), model.b(torch.relu(model.a(x))).flatten(2) + model.made(x), 1e-6)


@every
def test_what_a_model_kept_does_not_keep_it_from_being_saved(kind, tmp_path: Path) -> None:
    model, slim = used(kind, (1, 4, 16))
    swdc.save(slim, tmp_path / "slim", model=model)
    fresh, x = swdc.load_into(kind().eval(), tmp_path / "slim"), torch.randn(3, 3, 4, 16)
    with torch.no_grad():
        assert_same(slim.eval()(x), fresh(x), 1e-6)


@every
def test_the_key_of_the_example_is_not_taken_for_a_width(kind) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        model(x)  # what it keeps is for 16 x 16 already, and 16 is a width, too
        program = swdc.trace(model, x)
        slim = swdc.slim(program, swdc.plan(program, 0.5))
        mine = swdc.transplant(slim, model)
        for size in (slim.tensors["a.weight"].shape[0], 8, 16):
            more = torch.randn(1, 3, size, size)
            y = mine.b(torch.relu(mine.a(more)))
            assert_same(y.flatten(2) + mine.made(y), copy.deepcopy(mine)(more), 1e-6)


def test_a_model_is_compared_with_what_it_is_handed_out_with() -> None:
    model, slim = used(BySize, (1, 4, 16))
    comparison = Comparison(slim, swdc.trace(BySize().eval(), torch.randn(2, 3, 8, 8)), model)
    mine = swdc.transplant(slim, model)
    comparison.as_called(mine)
    mine.shape = torch.Size((2, 4, 8, 8))  # beside the tensor of another size
    with pytest.raises(TransplantError, match="they differ by"):
        comparison.as_called(mine)
