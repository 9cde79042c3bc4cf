"""What a program does not keep of its model is told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.trace_rules as rules
from torch import nn

import swdc
from swdc.capture.left_behind import asked_of_torch
from tests.support import Function


class _State(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def _tied_by_data() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight.data = model[0].weight.data  # type: ignore[union-attr]
    return model


class _Items(list[Any]):
    pass


@dataclasses.dataclass
class _Scaled:
    values: torch.Tensor
    by: dataclasses.InitVar[int] = 3

    def __post_init__(self, by: int) -> None:
        self.scale = by


def _in_float32(m: Any, x: torch.Tensor) -> Any:
    with torch.autocast("cpu", enabled=False):
        return m.one(x)


def _layer(function: Callable[[Any, torch.Tensor], Any]) -> nn.Module:
    return Function(function, one=nn.Linear(4, 4))


TOLD = {
    "extra state": (lambda: nn.Sequential(_State(4, 4)), "does not keep the extra state of 0 (get_extra_state)"),
    "shared memory": (_tied_by_data, "0.weight and 2.weight share memory, but are not one parameter"),
    "a class of lists": (lambda: _layer(lambda m, x: _Items([m.one(x)])), "_Items comes back as a list"),
    "what a dataclass computes": (
        lambda: _layer(lambda m, x: _Scaled(m.one(x))),
        "_Scaled comes back as its fields alone, without scale",
    ),
    "layout": (
        lambda: _layer(lambda m, x: m.one(x) * (1 if x.is_contiguous() else 3)),
        "asks how a tensor lies in memory (" + __file__,
    ),
    "strides": (lambda: _layer(lambda m, x: m.one(x) * x.stride(0)), "asks how a tensor lies in memory"),
    "autocast switched off": (lambda: _layer(_in_float32), "asks for autocast, or switches it (" + __file__),
    "inference mode asked for": (
        lambda: _layer(lambda m, x: m.one(x) * (2 if torch.is_inference_mode_enabled() else 1)),
        "asks for inference mode (" + __file__,
    ),
    "autocast asked for": (
        lambda: _layer(lambda m, x: m.one(x) * (2 if torch.is_autocast_enabled("cpu") else 1)),
        "inside of it, run the model itself",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_it_is_told(name: str) -> None:
    make, text = TOLD[name]
    with pytest.warns(UserWarning, match=re.escape(text)):
        swdc.trace(make().eval(), torch.randn(3, 4))


def test_nothing_is_told_of_ordinary_models() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight  # type: ignore[assignment, union-attr]
    assert swdc.trace(tied.eval(), torch.randn(3, 4)).facts.notes == ()
    assert "is_contiguous" not in torch.Tensor.__dict__  # what is watched meanwhile is as it was


def test_torch_compile_does_not_take_what_notes_who_asks_for_torchs_own() -> None:
    rules.get_torch_obj_rule_map.cache_clear()
    before = rules.lookup(torch._check_is_size)
    rules.get_torch_obj_rule_map.cache_clear()
    with asked_of_torch():
        rules.lookup(torch.relu)  # the first look, as if torch had been imported only now
    assert rules.lookup(torch._check_is_size) is before
