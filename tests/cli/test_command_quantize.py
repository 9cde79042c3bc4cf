"""``swdc quantize``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.support_cli import run, run_error, run_json

MLP = ("tests.cli.small_models:mlp", "--input", "1x4")
HERE = "tests.cli.test_command_quantize"


def batches() -> list[torch.Tensor]:
    """Return two batches for the small network."""
    return [torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]


def always_one(run: object) -> float:
    """Return the score of any file."""
    return 1.0


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    run_json("export", *MLP, "--out", tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


def test_an_int8_file_is_written(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    result = run("quantize", exported, "--batches", f"{HERE}:batches", "--out", out, "--most-drop", 0.5)
    assert result.exit_code == 0, result.stderr
    assert f"wrote {out}: " in result.stdout
    assert " layers in int8, with weights of " in result.stdout
    assert out.is_file()


def test_json_is_the_report(exported: Path, tmp_path: Path) -> None:
    asked = ("--batches", f"{HERE}:batches", "--metric", f"{HERE}:always_one", "--reduce-range")
    document = run_json("quantize", exported, *asked, "--out", tmp_path / "int8.onnx", "--state", tmp_path / "state")
    assert (document["float"], document["path"]) == (str(exported), str(tmp_path / "int8.onnx"))
    assert (document["score"], document["float_score"], document["reduced_range"]) == (1.0, 1.0, True)
    assert document["quantized"]
    assert any((tmp_path / "state").iterdir())


def test_what_cannot_be_used_is_told(exported: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "int8.onnx")
    text = run_error("quantize", exported, "--batches", f"{HERE}:none", *out)
    assert "there is no 'none' in it" in text
    text = run_error("quantize", exported, "--batches", f"{HERE}:batches", "--keep", "x*", *out)
    assert "matches none; names look like" in text
    assert not (tmp_path / "int8.onnx").exists()
