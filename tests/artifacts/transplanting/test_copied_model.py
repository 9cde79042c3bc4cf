"""Copies of models: of computed tensors too, and beside what has no copy."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.transplanting.copied_model import copied_model
from swdc.errors import TransplantError
from tests.support import assert_same, image, random_plan, randomise


class Net(nn.Module):
    """Holds something beside its layers."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.one, self.two, self.held = nn.Conv1d(2, 8, 3), nn.Conv1d(8, 3, 1), held
        self.owner = [self]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.relu(self.one(x)))


def transplanted(model: nn.Module) -> nn.Module:
    """Return a slim copy of a model, which computes what its slim program computes; the model stays as it is."""
    program = swdc.trace(randomise(model).eval(), image(2, 2, 9))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    slim = swdc.slim(program, random_plan(program))
    mine = swdc.transplant(slim, model)
    assert_same(slim(image(3, 2, 7)), mine(image(3, 2, 7)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return mine


@pytest.mark.parametrize("make", [threading.Lock, lambda: (i for i in range(3)), lambda: [threading.RLock(), "text"]])
def test_what_has_no_copy_is_shared(make: Any) -> None:
    model = Net(make())
    mine = transplanted(model)
    assert mine.held is model.held
    assert mine.owner[0] is mine
    assert mine.one.out_channels < 8


def test_a_tensor_computed_from_parameters_is_copied() -> None:
    model = Net(None)
    model.held = {"computed": model.one.weight * 2}
    mine = copied_model(model)
    assert torch.equal(mine.held["computed"], model.held["computed"])
    assert mine.held["computed"].data_ptr() != model.held["computed"].data_ptr()
    assert mine.owner[0] is mine


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_a_model_with_old_weight_norms_is_transplanted() -> None:
    model = Net(None)
    for name in ("one", "two"):
        nn.utils.weight_norm(getattr(model, name))
    mine = transplanted(model)
    assert mine.one.weight_v.shape[0] == mine.one.weight_g.shape[0] == mine.two.weight_v.shape[1] < 8


def test_what_has_no_copy_and_holds_tensors_is_refused() -> None:
    model = Net([threading.Lock(), torch.ones(2)])
    with pytest.raises(TransplantError, match="but held holds tensors and cannot"):
        copied_model(model)
