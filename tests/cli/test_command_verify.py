"""``swdc verify``."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

import swdc
from swdc.cli.verify.folder import _difference
from swdc.cli.verify.onnx_file import _is_other
from swdc.errors import ArtifactError
from swdc.ir.value_checks import READS
from swdc.rewriting.same_weights import computed_weights
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


def test_weights_of_a_coarse_type_are_compared_to_the_bit() -> None:
    """A few rounding errors of bfloat16 are percents."""
    model = small_models.Residual().bfloat16().eval()
    torch.manual_seed(0)
    program = swdc.trace(model, torch.randn(1, 3, 8, 8).bfloat16())
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    name, tensor = next((n, t) for n, t in slim.tensors.items() if t.dim() == 4)
    computed = computed_weights(swdc.mask(program, slim.facts.origin.plan), slim)
    assert name not in computed
    forged = slim.clone()
    with torch.no_grad():
        forged.tensors[name].mul_(1.01)
    assert not torch.equal(forged.tensors[name], tensor)
    assert _difference(slim, slim, swdc.mask(program, slim.facts.origin.plan)) is None
    assert _difference(forged, slim, swdc.mask(program, slim.facts.origin.plan)) == (
        f"its tensor {name} is not that of the model"
    )


def test_what_writes_to_tensors_is_no_check(made: Path, tmp_path: Path) -> None:
    """The hash leaves out checks of what recorded code read, with what they need."""
    shutil.copytree(made / "slim", tmp_path / "slim")
    path = tmp_path / "slim" / "graph.json"
    graph = json.loads(path.read_text())
    at, node = next((k, n) for k, n in enumerate(graph["nodes"]) if "relu" in str(n["target"]))

    def call(name: str, target: str, *args: object, shape: object = None, dtype: str = "bool") -> dict[str, object]:
        kind = {"dtype": dtype}
        made = {"op": "call_function", "name": name, "target": target, "args": list(args), "kwargs": {}}
        return {**made, "shape": [] if shape is None else shape, "dtype": kind}

    graph["nodes"][at + 1 : at + 1] = [
        call("x1", "torch.ops.aten.mul_.Scalar", {"node": node["name"]}, -3.0, shape=node["shape"], dtype="float32"),
        call("x2", "torch.ops.aten.eq.Tensor", {"node": "x1"}, {"node": "x1"}, shape=node["shape"]),
        call("x3", "torch.ops.aten.all.default", {"node": "x2"}),
        {**call("x4", "torch.ops.aten._assert_async.msg", {"node": "x3"}, f"{READS}0"), "shape": None, "dtype": None},
    ]
    path.write_text(json.dumps(graph))
    seal(tmp_path / "slim")
    with pytest.raises(ArtifactError, match="reads as another one"):
        swdc.load(tmp_path / "slim")


@pytest.mark.parametrize("size", [10**9, 10**30, -1])
def test_sizes_that_a_file_names_have_to_fit_into_memory(made: Path, tmp_path: Path, size: int) -> None:
    model = onnx.load(made / "slim.onnx")
    free = [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim if dim.dim_param]
    (sizes,) = [entry for entry in model.metadata_props if entry.key == "swdc.sizes"]
    sizes.value = json.dumps({free[0]: size})
    onnx.save(model, tmp_path / "other.onnx")
    assert "that fit into memory" in run_error("verify", tmp_path / "other.onnx", "--model", RESIDUAL)


def test_whole_numbers_are_not_rounded() -> None:
    numbers, got = torch.tensor([100_006, 100_002]), torch.tensor([100_006, 100_003])
    assert _is_other(numbers, numbers, got)
    assert not _is_other(got, numbers, got)  # rounding has chosen between both in the model itself
    assert _is_other(numbers, numbers, numbers.float())
    assert _is_other(torch.ones(2), torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert not _is_other(torch.ones(2), torch.ones(2).bfloat16(), torch.ones(2))


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
