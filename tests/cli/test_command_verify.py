"""``swdc verify``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import swdc
from tests.cli import small_models
from tests.cli.support_cli import run, run_error, run_json
from tests.faults.folders import seal

RESIDUAL = "tests.cli.small_models:Residual"
INPUT = ("--input", "1x3x8x8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run_json("slim", RESIDUAL, *INPUT, "--out", folder / "slim", "--onnx", folder / "slim.onnx")
    return folder


@pytest.mark.parametrize("name", ["slim", "slim.onnx"])
@pytest.mark.parametrize("given", [(), INPUT], ids=["shapes as named", "shapes as given"])
def test_what_was_made_from_the_model_is_exact(made: Path, name: str, given: tuple[str, ...]) -> None:
    document = run_json("verify", made / name, "--model", RESIDUAL, *given)
    assert document["exact"] is True
    assert document["certificate"]["exact"] is True


@pytest.mark.parametrize("name", ["slim", "slim.onnx"])
def test_what_was_made_from_other_weights_is_not(made: Path, name: str) -> None:
    result = run("verify", made / name, "--model", RESIDUAL, "--seed", 1)
    assert result.exit_code == 1, result.stderr
    assert f"{made / name}: NOT exact, " in result.stdout


def test_replaced_weights_are_found_though_the_folder_says_exact(made: Path, tmp_path: Path) -> None:
    run_json("slim", RESIDUAL, *INPUT, "--out", tmp_path / "slim")
    weights = tmp_path / "slim" / "weights.safetensors"
    tensors = load_file(weights)
    tensors["head.bias"] += 1e-4
    save_file(tensors, weights)
    manifest = json.loads((tmp_path / "slim" / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "slim" / "manifest.json").write_text(json.dumps(manifest))
    document = run_json("verify", tmp_path / "slim", "--model", RESIDUAL, exit_code=1)
    assert document["finding"] == "its tensor head.bias is not that of the model"
    assert run_json("inspect", tmp_path / "slim")["certificate"]["exact"] is False


def test_a_deployed_file_is_exact(made: Path, tmp_path: Path) -> None:
    run_json("export", made / "slim", "--deploy", "--out", tmp_path / "deployed.onnx")
    assert run_json("verify", tmp_path / "deployed.onnx", "--model", RESIDUAL)["exact"] is True


def test_a_file_names_sizes_at_which_it_is_tried(tmp_path: Path) -> None:
    model = "tests.cli.small_models:Pyramid"
    run_json("slim", model, "--input", "1x3x21x21", "--out", tmp_path / "slim", "--onnx", tmp_path / "slim.onnx")
    assert run_json("verify", tmp_path / "slim.onnx", "--model", model)["exact"] is True


def test_weights_of_a_file_are_those_of_the_model(made: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in _state().items()}
    torch.save(state, tmp_path / "best.pt")
    weights = ("--weights", tmp_path / "best.pt")
    run_json("slim", RESIDUAL, *INPUT, *weights, "--out", tmp_path / "slim")
    assert run_json("verify", tmp_path / "slim", "--model", RESIDUAL, *weights)["exact"] is True
    assert run_json("verify", tmp_path / "slim", "--model", RESIDUAL, exit_code=1)["exact"] is False


def _state() -> dict[str, torch.Tensor]:
    from tests.cli.small_models import Residual

    return Residual().state_dict()


def test_another_model_is_unusable(made: Path, tmp_path: Path) -> None:
    message = run_error("verify", made / "slim", "--model", "tests.cli.small_models:mlp", "--input", "1x4")
    assert "expected a plan of this program" in message
    (tmp_path / "text.onnx").write_text("no file of ONNX")
    assert "whose metadata name its plan" in run_error("verify", tmp_path / "text.onnx", "--model", RESIDUAL)


def _renamed(graph: dict[str, Any]) -> None:
    outputs = graph["signature"]["outputs"]
    graph["signature"]["outputs"] = outputs.replace("cat", "@").replace("dog", "cat").replace("@", "dog")


FORGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "results": (_renamed, "another structure of results"),
    "arguments": (lambda g: g["signature"].update(arguments=["k", "q"]), "other names of arguments"),
    "conditions": (lambda g: g["facts"].update(conditions=[]), "other conditions on sizes"),
    "modes": (lambda g: g.update(modes=dict.fromkeys(g["modes"], True)), "another training mode of a module"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_folder_that_is_called_otherwise_is_not_exact(name: str, tmp_path: Path) -> None:
    forge, text = FORGED[name]
    model, inputs = small_models.two_results(), (torch.randn(3, 4), torch.randn(3, 4))
    program = swdc.trace(model, inputs)
    plan = swdc.plan(program, 0.5)
    folder = swdc.save(swdc.slim(program, plan), tmp_path / "slim")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    given = (folder, "--model", "tests.cli.small_models:two_results", "--weights", tmp_path / "weights.pt")
    assert run("verify", *given).exit_code == 0
    graph = json.loads((folder / "graph.json").read_text())
    forge(graph)
    (folder / "graph.json").write_text(json.dumps(graph))
    seal(folder)
    result = run("verify", *given)
    assert result.exit_code != 0
    assert text in " ".join(result.output.split())
    forged = swdc.load(folder)
    if name != "modes":
        assert any(text in note for note in swdc.verify(swdc.mask(program, plan), forged).notes)
