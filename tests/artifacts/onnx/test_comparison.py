"""Files are compared at other sizes than the example's; one that is wrong there takes those of the example alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swdc import export_onnx
from swdc.artifacts.comparison import Comparison, OtherSizesError
from swdc.artifacts.onnx import stages
from swdc.artifacts.onnx.exporter import UnexportableError, exported, in_float32
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.errors import ExportError
from tests.support import Function, image, traced


def _network(function: Any) -> Function:
    torch.manual_seed(0)
    return Function(function, one=nn.Linear(4, 2))


def test_a_file_that_is_wrong_at_other_sizes_is_found(tmp_path: Path) -> None:
    file = tmp_path / "sum.onnx"
    total = traced(_network(lambda m, x: m.one(x).sum(1)), image(2, 8, 4))
    mean = traced(_network(lambda m, x: m.one(x).mean(1) * 8), image(2, 8, 4))
    assert export_onnx(total, file).fixed == ()
    comparison = Comparison(in_float32(mean), (1, 3), 1e-4)
    assert comparison.error(stages.running(file), everywhere=False) < 1e-5
    with pytest.raises(OtherSizesError, match=r"relative error .* at batch 1, length \d"):
        comparison.error(stages.running(file), everywhere=True)


def test_a_program_that_cannot_be_exported_with_free_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_fixed(program: Any, opset: Any, fixed: Any, optimized: bool) -> Any:
        if not fixed:
            raise UnexportableError("expected a program that torch.onnx can export, but it fails")
        return exported(program, opset, fixed, optimized)

    monkeypatch.setattr(stages, "exported", only_fixed)
    program = traced(_network(lambda m, x: m.one(x).sum(1)), image(2, 8, 4))
    with pytest.warns(UserWarning, match="takes length as in the example alone; .* torch.onnx can export"):
        report = export_onnx(program, tmp_path / "net.onnx")
    assert report.fixed == ("length",)
    x = torch.randn(3, 8, 4)
    assert torch.allclose(torch.from_numpy(run_onnx(report.path, x)[0]), in_float32(program)(x), atol=1e-5)
    with pytest.raises(ExportError, match="expected inputs that onnxruntime can run"):
        run_onnx(report.path, torch.randn(2, 7, 4))
