import json

import pytest
import torch
from typer.testing import CliRunner

import swdc
from swdc.cli import app
from swdc.cli.demo.tasks import SCENES, scene
from swdc.errors import CommandError
from tests.artifacts.report.reading import Page

KEYS = {
    "accuracy_dense",
    "accuracy_masked",
    "accuracy_slim",
    "parameters",
    "operations",
    "macs",
    "exact",
    "max_relative_error",
    "onnx_max_relative_error",
    "latency_ms",
    "seconds",
}


def test_demo_leaves_a_certified_slim_network(tmp_path):
    """The graph network is the quick one; ``.ci/run`` runs the command with the digits, and checks its report."""
    network, epochs, out = "gcn", 60, tmp_path / "demo"
    page = tmp_path / "page.html"
    options = {"--network": network, "--epochs": epochs, "--out": out, "--report": page}
    result = CliRunner().invoke(app, ["demo", *(str(text) for option in options.items() for text in option)])
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert set(report) >= KEYS
    assert report["exact"]
    assert report["accuracy_masked"] == report["accuracy_slim"]
    assert 0 < report["parameters"]["after"] <= 0.1 * report["parameters"]["before"]
    assert report["onnx_max_relative_error"] <= 1e-4
    data = Page(page).data
    assert data["slim"]["macs"] == report["macs"]
    assert data["measured"]["Accuracy"] == {"before": report["accuracy_dense"], "after": report["accuracy_slim"]}
    assert [stage["name"] for stage in data["deployment"]["stages"]] == ["before", "slim", "deployed"]
    for name in ("slim.onnx", "dense.onnx", "widths.png"):
        assert (out / name).stat().st_size > 0
    slim = swdc.load(out / "slim")
    assert swdc.count(slim).parameters == report["parameters"]["after"]
    assert scene(network, 0).accuracy(slim.eval()) == report["accuracy_slim"]


def test_scenes_are_repeatable():
    first, second = (scene("resnet20", 3) for _ in range(2))
    for one, other in zip(first.program.parameters(), second.program.parameters(), strict=True):
        assert torch.equal(one, other)


def test_unknown_scenes_are_refused():
    with pytest.raises(CommandError, match="expected a network of"):
        scene("vgg", 0)
    assert set(SCENES) == {"resnet20", "gcn"}
