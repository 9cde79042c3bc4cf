"""Hooks of calls on a model that becomes slim."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.ops.statistics import LayerNorm
from tests.artifacts.transplanting.models import HandNorm
from tests.support import assert_same, image, plan_of, randomise

X = image(3, 6)


class Recorder:
    """Keeps the shapes of what a module returns."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def hook(self, module: nn.Module, args: Any, result: torch.Tensor) -> None:
        self.shapes.append(tuple(result.shape))


def make() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 3))
    return randomise(model).eval()  # type: ignore[return-value]


def slim_of(model: nn.Module) -> swdc.Program:
    program = swdc.trace(model, image(2, 6))
    return swdc.slim(program, plan_of(program, {group.name: range(0, group.width, 2) for group in program.groups}))


@pytest.mark.parametrize("path", ["0", "1"])
def test_a_loaded_model_has_the_hooks_that_were_registered_and_their_handles(path: str, tmp_path: Path) -> None:
    model = make()
    swdc.save(slim_of(model), tmp_path / "slim", model=model)
    mine, recorder = make(), Recorder()
    handle = mine.get_submodule(path).register_forward_hook(recorder.hook)
    loaded = swdc.load_into(mine, tmp_path / "slim")
    assert isinstance(loaded[1], LayerNorm)
    recorder.shapes.clear()
    loaded(X)
    assert recorder.shapes == [(3, 6)]
    handle.remove()
    loaded(X)
    assert recorder.shapes == [(3, 6)]


@pytest.mark.parametrize("path", ["0", "1", "2"])
def test_a_hook_that_changes_a_result_does_so_once(path: str) -> None:
    model = make()
    model.get_submodule(path).register_forward_hook(lambda module, args, result: result * 2 + 1)
    slim = slim_of(model)
    plain = make()
    mine = swdc.transplant(slim, model)
    assert len(mine.get_submodule(path)._forward_hooks) == 1
    assert_same(slim(X), mine(X))
    assert not torch.allclose(model(X), plain(X))


@pytest.mark.filterwarnings("ignore:the model changes calls:UserWarning")
def test_a_hook_of_a_part_of_the_model_is_the_part_that_runs(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        calls = 0

        def __init__(self) -> None:
            super().__init__(6, 12)
            self.register_forward_hook(self.count)

        def count(self, *_: Any) -> None:
            self.calls += 1

    def counting() -> nn.Sequential:
        return randomise(nn.Sequential(Counting(), nn.ReLU(), nn.Linear(12, 3))).eval()  # type: ignore[return-value]

    model = counting()
    swdc.save(slim_of(model), tmp_path / "slim", model=model)
    loaded: Any = swdc.load_into(counting(), tmp_path / "slim")
    before = loaded[0].calls
    loaded(X)
    assert loaded[0].calls == before + 1


def test_a_warning_names_modules_that_lose_their_hooks() -> None:
    model = randomise(nn.Sequential(nn.Linear(6, 12), HandNorm(12), nn.Linear(12, 3))).eval()
    slim = slim_of(model)
    with pytest.warns(UserWarning, match=r"1 \(HandNorm\)$"):
        swdc.transplant(slim, model)
    model[1].register_forward_hook(Recorder().hook)
    with pytest.warns(UserWarning, match=r"1 \(HandNorm, without its hooks\)"):
        swdc.transplant(slim, model)


class Caching(nn.Module):
    """Keeps what it computes from a parameter in evaluation, as libraries do for speed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.cache = nn.Linear(6, 12), nn.Linear(12, 3), dict[str, torch.Tensor]()
        self.shift = nn.Parameter(torch.ones(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "shift" not in self.cache:
            self.cache["shift"] = self.shift.exp()
        return self.last(self.first(x).relu() * self.cache["shift"])


def test_a_loaded_model_holds_nothing_that_the_comparison_computed(tmp_path: Path) -> None:
    model = randomise(Caching()).float().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = swdc.trace(model, X.float())
        slim = swdc.slim(program, swdc.plan(program, 0.5))
        model.cache.clear()
        swdc.save(slim, tmp_path / "slim", model=model)
        loaded = swdc.load_into(Caching().eval(), tmp_path / "slim")
    assert not loaded.cache
    assert loaded(X.float()).dtype == torch.float32
