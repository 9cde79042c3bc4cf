import json

import pytest
import torch
from typer.testing import CliRunner

import swdc
from swdc.cli import app
from swdc.cli.demo.picture import layer_widths
from swdc.cli.demo.run import train, train_dense
from swdc.cli.demo.tasks import SCENES, scene
from swdc.errors import CommandError
from tests.artifacts.report.reading import Page

KEYS = {
    "epochs",
    "accuracy_dense",
    "accuracy_swd",
    "accuracy_masked",
    "accuracy_slim",
    "parameters",
    "operations",
    "macs",
    "exact",
    "max_relative_error",
    "onnx_max_relative_error",
    "latency_ms",
    "latency_batch",
    "seconds",
}


def test_demo_leaves_a_certified_slim_network(tmp_path, monkeypatch):
    """The graph network is the quick one; ``.ci/run`` runs the command with the digits, and checks its report."""
    monkeypatch.setattr("swdc.cli.demo.run.LATENCY_RUNS", 20)
    network, epochs, ran_on, out = "gcn", 30, "the whole graph", tmp_path / "demo"
    page = tmp_path / "page.html"
    options = {"--network": network, "--epochs": epochs, "--out": out, "--report": page}
    result = CliRunner().invoke(app, ["demo", *(str(text) for option in options.items() for text in option)])
    assert result.exit_code == 0, result.output
    assert f"milliseconds in onnxruntime, {ran_on}" in result.output
    report = json.loads((out / "report.json").read_text())
    assert set(report) >= KEYS
    assert report["exact"]
    assert report["accuracy_masked"] == report["accuracy_slim"]
    assert 0 < report["parameters"]["after"] <= 0.1 * report["parameters"]["before"]
    assert report["onnx_max_relative_error"] <= 1e-4
    data = Page(page).data
    assert data["slim"]["macs"] == report["macs"]
    assert f"Milliseconds, {ran_on}" in data["measured"]
    assert data["measured"]["Accuracy"] == {"before": report["accuracy_dense"], "after": report["accuracy_slim"]}
    assert [stage["name"] for stage in data["deployment"]["stages"]] == ["before", "slim", "deployed"]
    for name in ("slim.onnx", "dense.onnx", "widths.png"):
        assert (out / name).stat().st_size > 0
    slim = swdc.load(out / "slim")
    unit = scene(network, 0).round_to
    assert all(width % unit == 0 or width == 10 for width in layer_widths(slim).values())  # 10 classes stay
    assert swdc.count(slim).parameters == report["parameters"]["after"]
    assert scene(network, 0).accuracy(slim.eval()) == report["accuracy_slim"]


def test_scenes_are_repeatable():
    first, second = (scene("resnet20", 3) for _ in range(2))
    for one, other in zip(first.program.parameters(), second.program.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dense_training_pulls_nothing_and_sees_the_same_data(monkeypatch):
    act = scene("gcn", 1)
    untrained = {name: tensor.clone() for name, tensor in act.program.state_dict().items()}
    train(act, 30, 1, lambda text, done, total: None)
    state = torch.get_rng_state()
    pulled = hidden_norms(act)
    act.program.load_state_dict(untrained)
    monkeypatch.setattr("swdc.cli.demo.run.SWD", None)
    train_dense(act, 30, 1, lambda text, done, total: None)
    assert torch.equal(torch.get_rng_state(), state)
    assert (pulled < 1e-6).sum() >= 32
    assert hidden_norms(act).min() > 1e-3
    assert act.accuracy(act.program.eval()) > 0.5


def hidden_norms(act):
    """The norms of what writes each hidden unit."""
    (weight,) = (p.detach() for p in act.program.parameters() if p.shape == (64, 34))
    return weight.norm(dim=1)


def test_unknown_scenes_are_refused():
    with pytest.raises(CommandError, match="expected a network of"):
        scene("vgg", 0)
    assert set(SCENES) == {"resnet20", "gcn"}
