"""Export to ONNX: what the file computes, what it is called, and what is left behind when it fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

import swdc
from swdc.artifacts.onnx.export import OnnxReport, latency_ms, run_onnx
from swdc.errors import ExportError
from swdc.ir.differences import relative_error
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from tests.support import random_plan, randomise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch_geometric uses of torch is deprecated
    from torch_geometric.datasets import KarateClub
    from torch_geometric.nn.models import GCN


def convnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def traced(model: nn.Module, example: Any) -> Program:
    """Return the float32 program of a randomised model, in training mode."""
    return swdc.trace(randomise(model).float().train(), example)


class Two(nn.Module):
    """Takes two inputs, one by name only, and returns nested results, some of which are not tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dense = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(5, 8)

    def forward(self, image: torch.Tensor, *, vector: torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
        features = functional.relu(self.norm(self.conv(image)))
        coded = self.dense(vector) * scale
        return {"relu": features, "pair": (features.mean((2, 3)) + coded, [coded, None]), "dense": vector}


class Result(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


class Lists(nn.Module):
    """Takes a list and a dict, returns a tensor twice, a parameter, and an input as it came."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, xs: list[torch.Tensor], named: dict[str, torch.Tensor]) -> tuple[Any, ...]:
        y = self.dense(xs[0]) + xs[1] * named["a"]
        return Result(y, y), self.dense.bias, xs[1]


def names(path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the shape of each input by name, and the names of the outputs."""
    graph = onnx.load(path).graph
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    return shapes, [o.name for o in graph.output]


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def assert_computes(program: Program, path: Path, batch: int, seed: int = 9) -> None:
    """Compare a file with its program on inputs that export has not seen."""
    reference = program.clone().eval()
    inputs = sample_inputs(program, batch, seed, torch.float32)
    got = [torch.from_numpy(array) for array in run_onnx(path, inputs)]
    with torch.no_grad():
        expected = reference(*inputs[0], **inputs[1])
    assert relative_error(expected, got) < 1e-5


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return traced(convnet(), torch.randn(1, 3, 8, 8))


@pytest.fixture(scope="module")
def exported(program: Program, tmp_path_factory: pytest.TempPathFactory) -> OnnxReport:
    return swdc.export_onnx(program, tmp_path_factory.mktemp("onnx") / "new" / "folder" / "net.onnx")


def test_a_file_computes_what_the_program_computes_at_any_batch(program: Program, exported: OnnxReport) -> None:
    assert names(exported.path) == ({"input_1": ["batch", 3, "height", "width"]}, ["output"])
    for batch in (1, 2, 7):
        assert_computes(program, exported.path, batch)


def test_the_report_says_what_was_written(exported: OnnxReport) -> None:
    data = exported.to_dict()
    assert data["path"] == str(exported.path)
    assert data["opset"] == onnx.load(exported.path).opset_import[0].version
    assert data["file_bytes"] == exported.path.stat().st_size
    assert 0 < data["max_relative_error"] < 1e-5
    assert data["batches"] == [1, 3]
    assert [file.name for file in exported.path.parent.iterdir()] == ["net.onnx"]


def test_the_program_stays_as_it_is(program: Program, exported: OnnxReport) -> None:
    assert program.training
    assert all(module.training for module in program.modules())
    assert all(node.op != "placeholder" or node.name == "input_1" for node in program.graph.nodes)
    assert program(torch.randn(2, 3, 8, 8)).shape == (2, 4)


def test_no_path_of_this_machine_is_in_the_file(exported: OnnxReport) -> None:
    assert str(Path(torch.__file__).parent).encode() not in exported.path.read_bytes()


def test_export_says_nothing(
    program: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    levels = {name: logging.getLogger(name).level for name in ("torch", "onnxscript", "onnx_ir")}
    swdc.export_onnx(program, tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_a_slim_file_knows_the_counts_before_and_after(program: Program, tmp_path: Path) -> None:
    slim = swdc.slim(program, random_plan(program, seed=3))
    report = swdc.export_onnx(slim, tmp_path / "slim.onnx")
    assert_computes(slim, report.path, 2)
    before, after, found = swdc.count(program), swdc.count(slim), metadata(report.path)
    assert found["swdc.version"] == swdc.__version__
    for name in ("parameters", "operations", "macs"):
        assert int(found[f"swdc.{name}"]) == getattr(after, name) < getattr(before, name)
        assert int(found[f"swdc.{name}.before"]) == getattr(before, name)


def test_a_dense_file_has_no_counts_before(program: Program, exported: OnnxReport) -> None:
    found = metadata(exported.path)
    assert int(found["swdc.parameters"]) == swdc.count(program).parameters
    assert not [name for name in found if name.endswith(".before")]


def test_keyword_inputs_and_nested_outputs_keep_their_names(tmp_path: Path) -> None:
    program = traced(Two(), {"image": torch.randn(1, 3, 6, 6), "vector": torch.randn(1, 5), "scale": 0.5})
    report = swdc.export_onnx(program, tmp_path / "two.onnx")
    inputs, outputs = names(report.path)
    assert inputs == {"image": ["batch", 3, "height", "width"], "vector": ["batch", 5]}
    assert outputs == ["relu", "pair_0", "pair_1_0", "dense"]
    assert_computes(program, report.path, 2)


def test_keywords_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    program = traced(Two(), {"image": torch.randn(2, 3, 6, 6), "vector": torch.randn(2, 5)})
    report = swdc.export_onnx(program, tmp_path / "two.onnx")
    given = {"vector": torch.randn(2, 5), "image": torch.randn(2, 3, 6, 6)}
    with torch.no_grad():
        expected = program.clone().eval()(**given)
    got = [torch.from_numpy(array) for array in run_onnx(report.path, given)]
    assert relative_error(expected, got) < 1e-5


def test_lists_dicts_and_values_returned_twice(tmp_path: Path) -> None:
    example = ([torch.randn(1, 4), torch.randn(1, 4)], {"a": torch.randn(1, 4)})
    program = traced(Lists(), example)
    report = swdc.export_onnx(program, tmp_path / "lists.onnx")
    inputs, outputs = names(report.path)
    assert list(inputs) == ["xs_0", "xs_1", "named_a"]
    assert outputs == ["output_0_logits", "output_0_hidden", "output_1", "output_2"]
    assert_computes(program, report.path, 3)


def test_outputs_may_be_called_as_inputs_or_inner_values_are(tmp_path: Path) -> None:
    class Clashing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"linear": torch.relu(self.dense(x)), "relu": self.dense(torch.relu(x)), "x": x + 1}

    program = traced(Clashing(), torch.randn(1, 4))
    report = swdc.export_onnx(program, tmp_path / "clash.onnx")
    assert names(report.path) == ({"x": ["batch", 4]}, ["linear", "relu", "x_out"])
    assert_computes(program, report.path, 2)


def test_a_graph_network_keeps_its_numbers_of_nodes_and_edges_open(tmp_path: Path) -> None:
    data = KarateClub()[0]
    program = traced(GCN(34, 8, 2, 4), (data.x, data.edge_index))
    report = swdc.export_onnx(program, tmp_path / "gcn.onnx")
    assert report.batches == ()
    assert names(report.path)[0] == {"x": ["nodes", 34], "edge_index": [2, "edges"]}
    nodes, edges = torch.randn(11, 34), torch.randint(0, 11, (2, 40))
    with torch.no_grad():
        expected = program.clone().eval()(nodes, edges)
    assert relative_error(expected, torch.from_numpy(run_onnx(report.path, (nodes, edges))[0])) < 1e-5


def test_resnet18(tmp_path: Path) -> None:
    program = traced(torchvision.models.resnet18(num_classes=10), torch.randn(1, 3, 64, 64))
    report = swdc.export_onnx(program, tmp_path / "resnet18.onnx", batches=(2,))
    assert report.batches == (2,)
    assert report.max_relative_error < 1e-5


def test_a_float64_program_is_exported_in_float32(tmp_path: Path) -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x).to(torch.float64) + torch.ones(4, dtype=torch.float64)

    program = swdc.trace(randomise(Casting()), torch.randn(1, 4, dtype=torch.float64))
    report = swdc.export_onnx(program, tmp_path / "double.onnx")
    assert run_onnx(report.path, torch.randn(2, 4))[0].dtype == np.float32
    assert all(t.dtype == torch.float64 for t in program.parameters())


def test_the_operator_set_can_be_chosen(program: Program, tmp_path: Path) -> None:
    report = swdc.export_onnx(program, tmp_path / "net.onnx", opset=18)
    assert report.opset == onnx.load(report.path).opset_import[0].version == 18


# -- deployment ---------------------------------------------------------------------------------------------


def test_each_stage_of_a_deployment_is_compared_and_timed(program: Program, tmp_path: Path) -> None:
    report = swdc.export_onnx(program, tmp_path / "net.onnx", deploy=True)
    exported, optimized = report.stages
    assert (exported.name, optimized.name) == ("exported", "optimized")
    for stage in report.stages:
        assert stage.kept
        assert 0 < stage.latency_ms < 1000
        assert stage.max_relative_error < 1e-5
    assert optimized.nodes < exported.nodes
    assert (report.file_bytes, report.max_relative_error) == (optimized.file_bytes, optimized.max_relative_error)
    assert report.file_bytes == report.path.stat().st_size
    assert len(onnx.load(report.path).graph.node) == optimized.nodes
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    assert_computes(program, report.path, 2)


def test_without_deployment_there_is_one_stage_and_no_time(exported: OnnxReport) -> None:
    (stage,) = exported.stages
    assert (stage.name, stage.file_bytes, stage.latency_ms) == ("exported", exported.file_bytes, None)


def _spoil(made: Any, program: Program) -> None:
    """Change the function of a file, as a wrong optimizer would."""
    node = next(node for node in made.model.graph if node.op_type == "Relu")
    node.op_type = "Neg"


def _fail(made: Any, program: Program) -> None:
    raise RuntimeError("no rule fits")


@pytest.mark.parametrize(
    ("optimizer", "reason"), [(_spoil, "expected outputs within a relative error"), (_fail, "RuntimeError: no rule")]
)
def test_what_the_optimizer_breaks_is_not_kept(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any, reason: str
) -> None:
    monkeypatch.setattr("swdc.artifacts.onnx.stages.optimize", optimizer)
    report = swdc.export_onnx(program, tmp_path / "net.onnx", deploy=True)
    exported, optimized = report.stages
    assert (exported.kept, optimized.kept) == (True, False)
    assert optimized.reason.startswith(reason)
    assert report.file_bytes == exported.file_bytes == report.path.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    assert_computes(program, report.path, 2)


def test_a_deployment_that_differs_leaves_no_file(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = traced(convnet(), torch.randn(1, 3, 8, 8)).clone()
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    monkeypatch.setattr("swdc.artifacts.onnx.export.deployed_program", lambda program: other)
    with pytest.raises(ExportError, match="within a relative error"):
        swdc.export_onnx(program, tmp_path / "net.onnx", deploy=True)
    assert not list(tmp_path.iterdir())


def test_the_metadata_name_plan_and_certificate(program: Program, tmp_path: Path) -> None:
    plan = random_plan(program, seed=3)
    slim = swdc.slim(program, plan)
    certificate = swdc.verify(swdc.mask(program, plan), slim)
    report = swdc.export_onnx(slim, tmp_path / "slim.onnx", deploy=True, certificate=certificate)
    found = metadata(report.path)
    canonical = json.dumps(plan.to_dict(), sort_keys=True, separators=(",", ":"))
    assert found["swdc.plan.sha256"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert found["swdc.certificate.exact"] == "true"
    assert float(found["swdc.certificate.max_relative_error"]) == certificate.max_relative_error
    assert int(found["swdc.certificate.seed"]) == certificate.seed
    assert int(found["swdc.macs"]) == report.macs == swdc.count(slim).macs
    other = dataclasses.replace(certificate, removed_channels=1 + certificate.removed_channels)
    with pytest.raises(ExportError, match="expected a certificate of the plan that the program was made with"):
        swdc.export_onnx(slim, tmp_path / "other.onnx", certificate=other)


def test_a_dense_file_has_neither_plan_nor_certificate(exported: OnnxReport) -> None:
    assert not [name for name in metadata(exported.path) if "plan" in name or "certificate" in name]


def test_the_report_counts_what_the_file_multiplies(program: Program, exported: OnnxReport) -> None:
    assert exported.macs == swdc.count(program).macs
    assert (exported.macs_difference, exported.explanation) == (0, ())
    assert json.loads(json.dumps(exported.to_dict()))["stages"][0]["nodes"] == exported.stages[0].nodes


def test_latency_is_a_median_of_milliseconds(program: Program, exported: OnnxReport) -> None:
    assert 0 < latency_ms(exported.path, torch.randn(1, 3, 8, 8), runs=5) < 1000
    with pytest.raises(ExportError, match="expected at least 1 run, got 0"):
        latency_ms(exported.path, torch.randn(1, 3, 8, 8), runs=0)


# -- failures -----------------------------------------------------------------------------------------------


def _other_inputs(session: Any, inputs: Any) -> dict[str, Any]:
    """Give onnxruntime other inputs than the program gets."""
    return {session.get_inputs()[0].name: inputs[0][0].numpy() + 1}


def test_a_difference_is_an_error_and_leaves_the_earlier_file(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"earlier")
    monkeypatch.setattr("swdc.artifacts.onnx.stages.feed", _other_inputs)
    with pytest.raises(ExportError, match=r"within a relative error of 1\.0e-04 in onnxruntime, got .* at batch 2"):
        swdc.export_onnx(program, path, batches=(2,))
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    assert path.read_bytes() == b"earlier"


def test_a_difference_leaves_no_file(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"relative error of 1\.0e-12 .* no file was written"):
        swdc.export_onnx(program, tmp_path / "net.onnx", tolerance=1e-12)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"earlier")
    swdc.export_onnx(program, path)
    assert_computes(program, path, 2)


def test_large_weights_go_beside_the_file(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
    report = swdc.export_onnx(program, tmp_path / "net.onnx")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["net.onnx", "net.onnx.data"]
    assert report.file_bytes == sum(file.stat().st_size for file in files)
    assert_computes(program, report.path, 2)
    with pytest.raises(ExportError, match="no file was written"):
        swdc.export_onnx(program, tmp_path / "other.onnx", tolerance=1e-12)
    assert sorted(tmp_path.iterdir()) == files


def test_weights_take_the_name_that_the_old_file_does_not_use(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as large:
        large.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
        for other in ("", ".other", ""):
            swdc.export_onnx(program, tmp_path / "net.onnx", batches=(2,))
            assert {file.name for file in tmp_path.iterdir()} == {"net.onnx", f"net.onnx{other}.data"}
            assert_computes(program, tmp_path / "net.onnx", 2)
    swdc.export_onnx(program, tmp_path / "net.onnx", batches=(2,))
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("name", ["net.onnx", "net.onnx.data"])
def test_links_and_devices_are_not_replaced(name: str, program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / name).symlink_to(tmp_path / "mine")
    with pytest.raises(ExportError, match="expected a regular file or a free name"):
        swdc.export_onnx(program, tmp_path / "net.onnx")
    assert (tmp_path / name).is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_full_disk_is_told(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("swdc.artifacts.onnx.stages.save", fail)
    with pytest.raises(ExportError, match=r"expected to write .*net\.onnx, but the disk is full"):
        swdc.export_onnx(program, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_an_operator_without_a_translation_is_named(tmp_path: Path) -> None:
    class Bessel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(ExportError, match=r"program that torch\.onnx can export, but it fails: .*bessel_j0"):
        swdc.export_onnx(swdc.trace(Bessel(), torch.randn(2, 3)), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_an_operator_set_that_cannot_be_written(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"expected operator set 5, but torch\.onnx could only write 18"):
        swdc.export_onnx(program, tmp_path / "net.onnx", opset=5)


def test_arguments_that_make_no_sense(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected the path of a file to write, got the folder"):
        swdc.export_onnx(program, tmp_path)
    with pytest.raises(ExportError, match=r"expected positive batch sizes to run the file at, got \[\]"):
        swdc.export_onnx(program, tmp_path / "net.onnx", batches=())
    with pytest.raises(ExportError, match=r"got \[1, 0\]"):
        swdc.export_onnx(program, tmp_path / "net.onnx", batches=(1, 0))


def test_a_program_without_tensors_in_its_result(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> int:
            return 3

    with pytest.raises(ExportError, match="expected a program that returns a tensor, got one that returns none"):
        swdc.export_onnx(swdc.trace(Constant(), torch.randn(2, 3)), tmp_path / "net.onnx")


def test_running_what_does_not_fit(exported: OnnxReport, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected an ONNX file, got no file at"):
        run_onnx(tmp_path / "none.onnx", torch.randn(1, 3, 8, 8))
    with pytest.raises(ExportError, match=r"expected 1 tensors \(input_1\) for the ONNX file, got 2"):
        run_onnx(exported.path, (torch.randn(1, 3, 8, 8), torch.randn(1)))
    with pytest.raises(ExportError, match=r"got \{'input_1': \(1, 4, 8, 8\)\}, on which it fails"):
        run_onnx(exported.path, torch.randn(1, 4, 8, 8))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ExportError, match="expected a file that onnxruntime can load"):
        run_onnx(tmp_path / "text.onnx", torch.randn(1, 3, 8, 8))


class MaskedAttention(nn.Module):
    """An attention with a bias for each pair of positions; its result is merged by a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 4)
        self.bias = nn.Parameter(torch.rand(3, 5, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).view(-1, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias[None])
        return self.out(attended.transpose(1, 2).reshape(-1, 5, 12).contiguous())


def test_reshapes_of_what_an_attention_gives(tmp_path: Path) -> None:
    program = traced(randomise(MaskedAttention()), torch.randn(2, 5, 12))
    swdc.export_onnx(program, tmp_path / "attention.onnx")
    assert (tmp_path / "attention.onnx").exists()


class Attention(nn.Module):
    """Attention over some number of dimensions, with a mask of fewer."""

    def __init__(self, *leading: int) -> None:
        super().__init__()
        self.line, self.leading = nn.Linear(12, 12), leading

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.line(x).view(*x.shape[:2], *self.leading, -1).movedim(1, -2)
        mask = torch.arange(x.shape[1]) <= torch.arange(x.shape[1])[:, None]
        return functional.scaled_dot_product_attention(q, q, q, mask).movedim(-2, 1).flatten(2)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)], ids=["three", "four", "five"])
def test_attention_of_any_rank(leading: tuple[int, ...], tmp_path: Path) -> None:
    program = traced(randomise(Attention(*leading)), torch.randn(2, 5, 12))
    assert swdc.export_onnx(program, tmp_path / "attention.onnx", batches=(3,)).fixed == ()
    assert_computes(program, tmp_path / "attention.onnx", 2)


class Tied(nn.Module):
    """Reads a weight as a layer and transposed; a module is called as an attribute of every program."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.code = nn.Linear(6, 12), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(torch.tanh(self.code(self.first(x))), self.code.weight.t())


def test_names_that_the_exporter_cannot_write(tmp_path: Path) -> None:
    program = swdc.trace(Tied().eval(), torch.randn(2, 6))
    assert swdc.export_onnx(program, tmp_path / "tied.onnx").max_relative_error < 1e-5


def test_a_convolution_with_as_many_groups_as_samples_is_refused(tmp_path: Path) -> None:
    class ForEachSample(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.style = nn.Parameter(torch.randn(1, 4, 3, 3, 3)), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            weight = self.weight * self.style(s).view(-1, 1, 3, 1, 1)
            flat = x.reshape(1, -1, *x.shape[2:])
            return functional.conv2d(flat, weight.flatten(0, 1), padding=1, groups=len(x)).view(-1, 4, *x.shape[2:])

    program = traced(ForEachSample(), (torch.randn(2, 3, 6, 6), torch.randn(2, 5)))
    with pytest.raises(
        ExportError, match=r"at .*test_export.py:\d+ takes its number of groups from the batch.*; scale"
    ):
        swdc.export_onnx(program, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
