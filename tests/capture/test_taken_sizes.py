"""Sizes that a model takes are taken by its program, its slim program, the saved folder and the ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.ir.program import Program
from tests.support import assert_same

Inputs = tuple[torch.Tensor, ...]


def holds_at(program: Program, model: nn.Module, others: Sequence[Inputs], folder: Path, onnx: bool = True) -> None:
    """Check a program, and what is made of it, at other sizes."""
    plan = swdc.plan(program, 0.5, scope="group")
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    swdc.save(slim, folder / "slim")
    loaded = swdc.load(folder / "slim")
    if onnx:
        swdc.export_onnx(slim, folder / "slim.onnx")
    for given in others:
        assert_same(program(*given), model(*given), 1e-5)
        assert_same(slim(*given), masked(*given), 1e-5)
        assert_same(loaded(*given), slim(*given), 1e-5)
        if onnx:
            found = run_onnx(folder / "slim.onnx", (given, {}))
            wanted = slim(*given)
            for one, other in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                assert_same(torch.from_numpy(one), other, 1e-4)


class Remembering(nn.Module):
    """A recurrent model whose states come beside the sequence, with the layers before the batch."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.r = nn.LSTM(6, 8, 2, batch_first=batch_first)
        self.d = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        result, (h, c) = self.r(x, (h, c))
        return self.d(result), h, c


def _sequence(batch: int, length: int, batch_first: bool) -> Inputs:
    shape = (batch, length, 6) if batch_first else (length, batch, 6)
    return torch.randn(*shape), torch.randn(2, batch, 8), torch.randn(2, batch, 8)


@pytest.mark.parametrize(("batch", "length", "batch_first"), [(3, 5, True), (2, 5, True), (3, 5, False), (3, 2, False)])
def test_the_batch_is_the_size_that_all_inputs_have(batch: int, length: int, batch_first: bool, tmp_path: Path) -> None:
    """Also where it, or the length, is as large as the number of layers in the example."""
    model = Remembering(batch_first).eval()
    program = swdc.trace(model, _sequence(batch, length, batch_first))
    assert program.facts.symbols == {"batch": batch, "length": length}
    others = [_sequence(4, 7, batch_first), _sequence(2, 3, batch_first), _sequence(1, 2, batch_first)]
    holds_at(program, model, others, tmp_path, onnx=batch_first)


def test_a_batch_as_large_as_the_number_of_layers_can_be_asked_for() -> None:
    program = swdc.trace(Remembering(True).eval(), _sequence(2, 5, True), dynamic=["batch"])
    assert program.facts.symbols == {"batch": 2}
