"""Checks of values in a model's code: the program fails where they do not hold, as the model does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import InputError
from tests.support import Function, certified, image, traced

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


SAID = "checks numbers that it reads from tensors"


NOT_NEGATIVE: dict[str, Callable[[Any], None]] = {
    "torch._check": lambda n: torch._check(n >= 0),
    "torch._check_is_size": lambda n: torch._check_is_size(n),
}


@pytest.mark.filterwarnings("ignore:the sizes of all inputs are fixed")
@pytest.mark.parametrize("check", NOT_NEGATIVE.values(), ids=NOT_NEGATIVE)
def test_one_that_a_number_is_not_negative_is_told(check: Callable[[Any], None]) -> None:
    def code(m: Any, x: torch.Tensor) -> Any:
        check((x > 0).sum().item() - 3)
        return m.b(m.a(x).relu())

    with pytest.warns(UserWarning, match=rf"{SAID} \(.*test_checks_of_values.py:\d+\); the program does not"):
        program = swdc.trace(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3)), image(5, 4).float())
    assert SAID in program.explain()


def test_one_that_always_holds_is_not() -> None:
    def code(m: Any, x: torch.Tensor) -> Any:
        found = (x[:, 0] > 0).nonzero().squeeze(1)
        torch._check(found.shape[0] >= 0)
        torch._check(x.shape[0] >= 0)
        return m.b(m.a(x).relu())[found]

    program = swdc.trace(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3)), image(5, 4).float())
    assert SAID not in program.explain()


def test_one_of_what_a_recording_reads_is_kept() -> None:
    def code(m: Any, x: torch.Tensor) -> Any:
        number = (x > 0).sum().item()
        torch._check(number >= 0)
        return m.b(m.a(x).relu()) * (2 if number > 3 else 1)

    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3)), image(5, 4).float())
    assert SAID not in program.explain()
    with pytest.raises(InputError, match="the model reads 9 at"):
        program(-image(5, 4).float())
