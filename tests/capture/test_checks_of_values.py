"""Checks of values in a model's code: the program fails where they do not hold, as the model does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from tests.support import Function, certified, traced

CHECKS: dict[str, Callable[[torch.Tensor], None]] = {
    "torch._assert": lambda x: torch._assert((x < 100).all(), "too large"),
    "torch._assert_async": lambda x: torch._assert_async((x < 100).all(), "too large"),
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_they_stay_through_rewriting_saving_and_export(check: Callable[[torch.Tensor], None], tmp_path: Path) -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        check(x)
        return m.b(m.a(x).relu())

    model = Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3))
    x = torch.randn(5, 4, dtype=torch.float64)
    program = traced(model, x)
    _, slim = certified(program, swdc.plan(program, sparsity=0.5))
    swdc.save(slim, tmp_path / "slim")
    swdc.export(slim, tmp_path / "slim.pt2")
    swdc.export_onnx(slim, tmp_path / "slim.onnx")  # which cannot say it
    loaded = swdc.load(tmp_path / "slim")
    for each in (program, slim, loaded, swdc.deploy(slim), torch.export.load(tmp_path / "slim.pt2").module()):
        assert each(x).shape == (5, 3)
        with pytest.raises(RuntimeError, match="too large"):
            each(1000 + x.abs())


def test_channels_that_one_looks_at_are_frozen() -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = m.a(x)
        torch._assert((h < 100).all(), "too large")
        return m.b(h.relu())

    program = swdc.trace(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3)), torch.randn(5, 4))
    assert not program.groups
    assert "a statistic over the channels" in program.explain()


def test_one_of_a_number_is_told() -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        torch._check(x.max().item() < 100)
        return m.b(m.a(x).relu())

    with pytest.warns(UserWarning, match=r"checks numbers that it reads from tensors \(.*:\d+\); the program does not"):
        swdc.trace(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3)), torch.randn(5, 4))
