"""Int8 files: as good as asked, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.artifacts.quantization import quantize as quantization
from swdc.artifacts.quantization.layer_errors import added_errors, quantized_nodes
from swdc.errors import ExportError
from tests.support import randomise


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()
    return randomise(nn.Sequential(*layers, nn.Linear(8 * 36, 10))).float().eval()


def batches(number: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 3, 8, 8, generator=generator) for _ in range(number)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("float") / "float.onnx"
    program = swdc.trace(network(), batches()[0])
    swdc.export_onnx(swdc.slim(program, swdc.plan(program, 0.25)), file, deploy=True)
    return file


def relative(one: Any, other: Any) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


def test_an_int8_file_agrees_and_is_told_of_in_full(exported: Path, tmp_path: Path) -> None:
    report = swdc.quantize_onnx(exported, batches(), tmp_path / "int8.onnx", most_drop=0.2)
    assert report.float_score == 1.0
    assert 0.8 <= report.score <= 1.0
    assert set(report.quantized) >= {"node_conv2d", "node_conv2d_1", "node_linear"}
    assert report.in_float == {}
    assert report.file_bytes == (tmp_path / "int8.onnx").stat().st_size < report.float_bytes
    assert report.samples == 16
    assert min(report.latency_ms, report.float_latency_ms) > 0
    assert report.to_dict()["path"] == str(tmp_path / "int8.onnx")
    x = batches(4)[3]
    (expected,), (got,) = run_onnx(exported, x), run_onnx(tmp_path / "int8.onnx", x)
    assert 0 < relative(expected, got) < 0.2
    tensors = onnx.load(tmp_path / "int8.onnx").graph.initializer
    weights = [t for t in tensors if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    assert len(weights) == 3
    known = [{e.key: e.value for e in onnx.load(file).metadata_props} for file in (exported, tmp_path / "int8.onnx")]
    assert known[0]["swdc.plan"] == known[1]["swdc.plan"]
    assert '"method": "minmax"' in known[1]["swdc.quantized"]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "int8.onnx"]


def test_layers_that_add_the_largest_error_stay_in_float_as_few_as_needed(exported: Path, tmp_path: Path) -> None:
    scores: list[float] = []

    def metric(run: Any) -> float:
        """Return less for each quantised layer: the more whole numbers, the further from the float file."""
        scores.append(-relative(run_onnx(exported, batches()[0])[0], run(batches()[0])[0]))
        return scores[-1]

    full = swdc.quantize_onnx(exported, batches(), tmp_path / "full.onnx", metric, 1.0, reduce_range=True)
    errors = added_errors(exported, tmp_path / "full.onnx", [{"input_1": b.numpy()} for b in batches()], tmp_path)
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert set(errors) == set(full.quantized)
    some = swdc.quantize_onnx(exported, batches(), tmp_path / "some.onnx", metric, -full.score * 0.9, reduce_range=True)
    assert some.score > full.score
    assert list(some.in_float) == list(errors)[: len(some.in_float)]
    assert set(some.quantized).isdisjoint(some.in_float)
    assert some.quantized


def test_a_file_that_is_not_good_enough_is_not_written(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    target.write_bytes(b"old")
    seen: list[int] = []

    def metric(run: Any) -> float:
        seen.append(1)
        return 1.0 if len(seen) == 1 else 0.5  # the first is the float file

    with pytest.raises(
        ExportError, match=r"expected a file whose score falls by at most 0.1 from 1, but it falls to 0.5"
    ):
        swdc.quantize_onnx(exported, batches(), target, metric, 0.1)
    assert target.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [target]


def test_named_nodes_stay_in_float_and_unknown_names_are_refused(exported: Path, tmp_path: Path) -> None:
    report = swdc.quantize_onnx(exported, batches(), tmp_path / "int8.onnx", most_drop=1.0, keep="*linear*")
    assert "node_linear" not in report.quantized
    assert "node_conv2d" in quantized_nodes(tmp_path / "int8.onnx")
    with pytest.raises(
        ExportError, match=r"expected keep to name nodes of .*'none' matches none; names look like node_"
    ):
        swdc.quantize_onnx(exported, batches(), tmp_path / "int8.onnx", keep=["none"])
    with pytest.raises(ExportError, match=r"expected a float file, got .*int8.onnx, which is quantised already"):
        swdc.quantize_onnx(tmp_path / "int8.onnx", batches(), tmp_path / "again.onnx")


def test_weights_of_seven_bits_where_eight_are_not_good_enough(exported: Path, tmp_path: Path) -> None:
    """Which of them is good enough depends on the processor; the metric here says that eight bits are not."""

    def metric(run: Any) -> float:
        file = sorted(tmp_path.glob(".swdc-*/int8_1_0.onnx"))
        return 1.0 if file or not list(tmp_path.glob(".swdc-*/int8_*")) else 0.0

    report = swdc.quantize_onnx(exported, batches(), tmp_path / "int8.onnx", metric)
    assert report.reduced_range
    largest = [
        np.abs(onnx.numpy_helper.to_array(t).astype(int)).max()
        for t in onnx.load(tmp_path / "int8.onnx").graph.initializer
        if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1
    ]
    assert largest
    assert max(largest) <= 64
    eight = swdc.quantize_onnx(exported, batches(), tmp_path / "int8.onnx", most_drop=1.0, reduce_range=False)
    assert not eight.reduced_range


def test_a_run_that_was_stopped_goes_on(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[bool] = []
    quantize = quantization.quantize_static

    def counted(*args: Any, **kwargs: Any) -> None:
        ways.append(kwargs["reduce_range"])
        if len(ways) == 2:
            raise KeyboardInterrupt
        quantize(*args, **kwargs)

    monkeypatch.setattr(quantization, "quantize_static", counted)

    def metric(run: Any) -> float:
        return 1.0 if len(ways) != 1 else 0.0  # eight bits are not good enough

    target, state = tmp_path / "int8.onnx", tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        swdc.quantize_onnx(exported, batches(), target, metric, state=state)
    assert not target.exists()
    report = swdc.quantize_onnx(exported, batches(), target, metric, state=state)
    assert ways == [False, True, True]  # eight bits are known
    assert (report.reduced_range, report.score) == (True, 1.0)
    assert sorted(file.name for file in state.rglob("*.json")) == ["measured.json", "ranges.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": []}, "expected at least one batch of inputs, got none"),
        ({"batches": [torch.zeros(0, 3, 8, 8)]}, "expected batches with samples in them, got none"),
        ({"path": "net\0.onnx"}, "expected the path of an ONNX file"),
        ({"batches": [torch.zeros(2, 3, 9)]}, "expected inputs that onnxruntime can run the file on"),
        ({"batches": [(torch.zeros(1), torch.zeros(1))]}, r"expected 1 tensors \(input_1\) for the ONNX file, got 2"),
        ({"path": "none.onnx"}, "expected an ONNX file, got no file at none.onnx"),
        ({"out": "."}, "expected the path of a file to write, got the folder"),
        ({"out": "float.onnx"}, "expected another file to write than the float file"),
        ({"most_drop": -0.1}, "expected a most_drop that is not negative, got -0.1"),
        ({"calibration": "guess"}, r"expected a calibration of \['minmax', 'entropy', 'percentile'\], got 'guess'"),
        ({"metric": lambda run: None}, "expected a metric that takes a function and returns a number"),
        ({"metric": lambda run: float("nan")}, "expected a metric that returns a finite number, got nan"),
        ({"metric": 3}, "expected metric as a function"),
        ({"state": "\0"}, "expected a folder for the state"),
    ],
)
def test_what_is_refused(exported: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    given = {"path": exported, "batches": batches(), "out": tmp_path / "int8.onnx", **change}
    given["out"] = exported if given["out"] == exported.name else given["out"]
    with pytest.raises(ExportError, match=message):
        swdc.quantize_onnx(**given)
    assert not any(tmp_path.iterdir())


def test_a_file_without_layers_is_told(tmp_path: Path) -> None:
    class Cosine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cos()

    swdc.export_onnx(swdc.trace(Cosine(), torch.randn(2, 4)), tmp_path / "float.onnx")
    with pytest.raises(ExportError, match="expected layers that onnxruntime can quantise"):
        swdc.quantize_onnx(tmp_path / "float.onnx", [torch.randn(2, 4)], tmp_path / "int8.onnx")
