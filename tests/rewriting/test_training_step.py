"""One step of training, and what is compared of it: on any device, and of complex numbers both parts.

The meta device stands for an accelerator: it refuses tensors of the CPU.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import swdc
from swdc.rewriting import first_difference as module
from swdc.rewriting.cases import EVAL, Case
from swdc.rewriting.first_difference import first_difference
from swdc.rewriting.training_step import training_step
from tests.support import Function, plan_of


def test_large_gradients_and_statistics_stay_on_their_device() -> None:
    with torch.device("meta"):
        program = swdc.trace(nn.Sequential(nn.Linear(80, 80), nn.Linear(80, 3)), torch.empty(4, 80))
    step = training_step(program, ((torch.empty(4, 80, device="meta"),), {}), seed=0, dtype=None)
    assert step.failure == ""
    sums = {name: tensor.shape for name, tensor in step.left.items() if "0.weight" in name}
    assert sums == {
        "the gradient of 0.weight, summed over rows": (80,), "the gradient of 0.weight, summed over columns": (80,),
    }  # fmt: skip
    assert {tensor.device.type for tensor in step.left.values()} == {"meta"}


def test_both_parts_of_complex_gradients_count() -> None:
    model = Function(lambda m, x: torch.fft.rfft(x) * m.weight, weight=nn.Parameter(torch.ones(70, 65) + 0j))
    program = swdc.trace(model, torch.randn(2, 70, 128))
    step = training_step(program, ((torch.randn(2, 70, 128),), {}), seed=0, dtype=None)
    assert step.left
    assert all(bool(tensor.imag.any()) for tensor in step.left.values())


def test_the_first_difference_is_found_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    program = swdc.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 4))
    plan = plan_of(program, {"0": range(0, 8, 2)})
    masked, slim = swdc.mask(program, plan).to("meta"), swdc.slim(program, plan).to("meta")
    shapes: list[tuple[torch.Size, torch.Size]] = []

    def compared(one: list[torch.Tensor], other: list[torch.Tensor]) -> list[torch.Tensor]:
        shapes.append((one[0].shape, other[0].shape))
        return []

    monkeypatch.setattr(module, "wide_errors", compared)
    inputs = (torch.empty(4, 4, device="meta"),), {}
    assert first_difference(masked, slim, Case(EVAL, 4, inputs), seed=0) is None
    assert shapes
    assert all(one == other for one, other in shapes)
