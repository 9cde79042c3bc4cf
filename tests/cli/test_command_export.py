"""``swdc export``."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import swdc
from swdc.artifacts.folder.save import load
from tests.cli import small_models
from tests.cli.support_cli import run, run_error, run_json

MLP = ("tests.cli.small_models:mlp", "--input", "1x4")


def test_a_model_is_exported(tmp_path: Path) -> None:
    result = run("export", *MLP, "--out", tmp_path / "mlp.onnx")
    assert result.exit_code == 0, result.stderr
    assert f"wrote {tmp_path / 'mlp.onnx'} (opset " in result.stdout
    session = onnxruntime.InferenceSession(str(tmp_path / "mlp.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: np.zeros((7, 4), np.float32)})
    assert output.shape == (7, 3)


def test_json_is_the_report_and_the_opset_is_used(tmp_path: Path) -> None:
    document = run_json("export", *MLP, "--out", tmp_path / "mlp.onnx", "--opset", 19)
    assert document["path"] == str(tmp_path / "mlp.onnx")
    assert document["opset"] == 19
    assert document["file_bytes"] == (tmp_path / "mlp.onnx").stat().st_size
    assert document["max_relative_error"] <= 1e-4
    assert len(document["batches"]) == 2
    model = onnx.load(tmp_path / "mlp.onnx")
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [19]


def test_a_saved_folder_is_exported(tmp_path: Path) -> None:
    run_json("slim", *MLP, "--out", tmp_path / "slim")
    document = run_json("export", tmp_path / "slim", "--out", tmp_path / "slim.onnx")
    assert document["max_relative_error"] <= 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "slim.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn(3, 4)
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), load(tmp_path / "slim")(x), rtol=1e-4, atol=1e-5)


def test_a_saved_folder_is_deployed_with_its_plan_and_certificate(tmp_path: Path) -> None:
    run_json("slim", *MLP, "--out", tmp_path / "slim")
    document = run_json("export", tmp_path / "slim", "--deploy", "--out", tmp_path / "slim.onnx")
    assert [stage["name"] for stage in document["stages"]] == ["exported", "optimized"]
    assert document["macs_difference"] == 0
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "slim.onnx").metadata_props}
    assert found["swdc.plan.sha256"] == load(tmp_path / "slim").facts.origin.plan.sha256()
    assert found["swdc.certificate.exact"] == "true"


def test_the_stages_of_a_deployment_are_a_table(tmp_path: Path) -> None:
    result = run("export", *MLP, "--deploy", "--out", tmp_path / "mlp.onnx")
    assert result.exit_code == 0, result.stderr
    stages = [line.split()[0] for line in result.stdout.splitlines() if "e-" in line]
    assert stages[:2] == ["exported", "optimized"]
    assert "multiply-adds in the file, +0 to swdc count" in result.stdout


def test_an_impossible_opset_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    message = run_error("export", *MLP, "--out", tmp_path / "mlp.onnx", "--opset", 5)
    assert "expected" in message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    message = run_error("export", *MLP, "--out", tmp_path)
    assert f"expected --out to name a file, got the folder {tmp_path}; add a file name" in message


def test_a_folder_of_a_program_takes_no_other_file(tmp_path: Path) -> None:
    program = swdc.trace(small_models.Residual().eval(), torch.randn(1, 3, 8, 8))
    folder = swdc.save(program, tmp_path / "saved")
    for given in (("export", folder, "--out", folder / "x.onnx"), ("compress", "any:task", "--out", folder)):
        assert "because that folder holds a program and nothing else" in run_error(*given)
    swdc.load(folder)


def test_a_folder_that_nothing_was_saved_in_is_told(tmp_path: Path) -> None:
    assert "expected" in run_error("export", tmp_path, "--out", tmp_path / "slim.onnx")


def test_a_saved_folder_is_exported_for_torch(tmp_path: Path) -> None:
    run_json("slim", *MLP, "--out", tmp_path / "slim")
    document = run_json("export", tmp_path / "slim", "--out", tmp_path / "slim.pt2")
    assert document["batches"] == [1, 3]
    facts = {"swdc.json": ""}
    loaded = torch.export.load(tmp_path / "slim.pt2", extra_files=facts).module()
    assert json.loads(facts["swdc.json"])["swdc.certificate.exact"] == "true"
    x = torch.randn(5, 4)
    torch.testing.assert_close(loaded(x), load(tmp_path / "slim")(x))
    result = run("export", tmp_path / "slim", "--out", tmp_path / "again.pt2")
    assert "loaded again it differs by" in result.stdout
    assert "expected --opset for an ONNX file" in run_error("export", *MLP, "--out", "net.pt2", "--opset", 19)
