"""Models without the memory of their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from swdc.capture.meta_model import trace_skeleton
from swdc.errors import ArtifactError, ExportError


class Tied(nn.Module):
    """Tied tensors, parameters that are not made by torch.empty, buffers with and without a place in a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.gain = nn.Parameter(torch.ones(6))
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("table", torch.arange(6.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.other(torch.relu(self.one(x) * self.gain)) + self.table)
        return result


def test_parameters_take_no_memory_and_buffers_keep_their_values() -> None:
    example = torch.randn(2, 6)
    program = trace_skeleton(Tied, example, dict.fromkeys(Tied().state_dict(), torch.float32))
    assert all(p.is_meta for p in program.parameters())
    assert program.tensors["one.weight"] is program.tensors["other.weight"]
    assert program.tensors["norm.running_mean"].is_meta
    assert torch.equal(program.tensors["table"], torch.arange(6.0))
    assert program.facts.example == ((example,), {})
    assert not program.training


def test_its_program_is_that_of_the_model() -> None:
    whole = swdc.trace(Tied().eval(), torch.randn(2, 6))
    blank = trace_skeleton(Tied, torch.randn(2, 6), {})
    assert blank.hash() == whole.hash()
    assert [g.name for g in blank.groups] == [g.name for g in whole.groups]
    assert swdc.count(blank) == swdc.count(whole)
    assert blank.explain() == whole.explain()


def test_types_are_those_of_the_checkpoint() -> None:
    types = dict.fromkeys(Tied().state_dict(), torch.bfloat16)
    program = trace_skeleton(Tied, torch.randn(2, 6, dtype=torch.bfloat16), types)
    assert {t.dtype for name, t in program.tensors.items() if name in types} == {torch.bfloat16}
    assert program.tensors["table"].dtype == torch.float32


def test_what_needs_values_says_so(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    program = trace_skeleton(make, torch.randn(2, 6), dict.fromkeys(make().state_dict(), torch.float32))
    plan = swdc.plan(program, criterion="uniform")
    slim = swdc.slim(program, plan)
    told = r"expected tensors with values for {}, got 4 on the meta device \(0\.weight, 0\.bias, 2\.weight\)"
    with pytest.raises(ArtifactError, match=told.format("saving")):
        swdc.save(slim, tmp_path / "slim")
    with pytest.raises(ExportError, match=told.format("an export")):
        swdc.export_onnx(slim, tmp_path / "slim.onnx")
    assert list(tmp_path.iterdir()) == []
