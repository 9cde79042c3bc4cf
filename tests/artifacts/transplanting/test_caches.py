"""Transplanting runs in float64: what the code keeps from these runs is forgotten, in the copy and everywhere else."""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import TransplantError
from tests.support import assert_same

KEPT: dict[str, torch.Tensor] = {}
KINDS = ("cached", "global", "class", "buffer", "attribute", "object", "longest")


@functools.lru_cache
def ramp(n: int) -> torch.Tensor:
    return torch.linspace(0, 1, n)


class Keeping(nn.Module):
    """Adds a vector that it makes in its first run, and keeps in one of several places."""

    held: torch.Tensor | None = None

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.made, self.longest, self.rest = kind, None, 0, SimpleNamespace(made=None)
        self.a, self.b, self.c = nn.Linear(3, 16), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x).relu()).relu()) + self.offset(x)

    def offset(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "cached":
            return ramp(4)
        if self.kind == "global":
            return KEPT.setdefault("ramp", torch.linspace(0, 1, 4)) if "ramp" not in KEPT else KEPT["ramp"]
        if self.kind == "class":
            Keeping.held = torch.linspace(0, 1, 4) if Keeping.held is None else Keeping.held
            return Keeping.held
        if self.kind == "buffer":
            if "kept" not in self._buffers:
                self.register_buffer("kept", x.new_ones(4) / 3, persistent=False)
            return self.kept
        if self.kind == "object":
            if self.rest.made is None:
                self.rest.made = torch.linspace(0, 1, 4)
            return self.rest.made
        if (self.kind == "longest" and self.longest < 4) or (self.made is None and self.kind == "attribute"):
            self.made, self.longest = x.new_ones(4) / 3, 4
        return self.made


@pytest.fixture(autouse=True)
def _forgotten() -> Any:
    yield
    KEPT.clear()
    ramp.cache_clear()
    Keeping.held = None


def _sliced(kind: str) -> tuple[nn.Module, swdc.Program]:
    torch.manual_seed(0)
    model = Keeping(kind).eval()
    program = swdc.trace(model, torch.randn(4, 3))
    return model, swdc.slim(program, swdc.plan(program, 0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_model_nor_the_copy_keeps_what_was_made_in_float64(kind: str) -> None:
    model, slim = _sliced(kind)
    mine, x = swdc.transplant(slim, model), torch.randn(4, 3)
    assert Keeping.held is None
    assert not KEPT
    for one in (mine, model):
        assert one(x).dtype == torch.float32
    assert mine.state_dict().keys() == model.state_dict().keys()
    assert_same(slim.eval()(x), mine(x), 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_a_model_that_is_loaded(kind: str, tmp_path: Path) -> None:
    model, slim = _sliced(kind)
    swdc.save(slim, tmp_path / "slim", model=model)
    fresh, x = swdc.load_into(Keeping(kind).eval(), tmp_path / "slim"), torch.randn(4, 3)
    for one in (fresh, model):
        assert one(x).dtype == torch.float32
    assert_same(slim.eval()(x), fresh(x), 1e-5)


def test_what_the_caller_has_kept_before_stays() -> None:
    model, slim = _sliced("global")
    KEPT["ramp"] = before = torch.linspace(0, 1, 4)
    with suppress(TransplantError):  # it is less exact than float64
        swdc.transplant(slim, model)
    assert KEPT["ramp"] is before


class Widening(nn.Module):
    """Returns float64 once it has fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(self.a(x).relu())
        return y.double() if self.a.out_features < 8 else y


def test_a_class_that_returns_another_type_is_not_taken() -> None:
    model = Widening().eval()
    program = swdc.trace(model, torch.randn(4, 3))
    with pytest.raises(TransplantError, match=r"to return torch.float32 as the slim program does, got torch.float64"):
        swdc.transplant(swdc.slim(program, swdc.plan(program, 0.5)), model)
