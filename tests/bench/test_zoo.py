import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from swdc.bench.catalogue import entry, names
from swdc.bench.entry import Entry
from swdc.bench.randomise import randomise_
from swdc.bench.zoo import measure
from swdc.cli import app
from swdc.errors import CommandError

COLUMNS = {
    "name",
    "exact",
    "max_relative_error",
    "parameters_before",
    "parameters_after",
    "operations_before",
    "operations_after",
    "onnx",
    "seconds",
    "reason",
}


def test_command_writes_a_row_for_each_network(tmp_path):
    path = tmp_path / "rows" / "zoo.json"
    result = CliRunner().invoke(app, ["bench", "zoo", "--only", "mlp,lenet5", "--json", str(path)])
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())
    assert [row["name"] for row in rows] == ["mlp", "lenet5"]
    for row in rows:
        assert set(row) >= COLUMNS
        assert row["exact"]
        assert row["onnx"]
        assert row["reason"] == ""
        assert row["parameters_after"] <= 0.55 * row["parameters_before"]


def test_a_network_that_cannot_be_traced_gives_a_reason():
    class Untraceable(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    row = measure(Entry("untraceable", Untraceable, lambda: torch.randn(2, 3)))
    assert not row["exact"]
    assert "expected a model that torch.export can capture" in row["reason"]


def test_a_network_that_shrinks_too_little_gives_a_reason():
    def wide_head():
        return nn.Sequential(nn.Linear(400, 4), nn.ReLU(), nn.Linear(4, 400), nn.ReLU(), nn.LayerNorm(400))

    row = measure(Entry("wide", wide_head, lambda: torch.randn(2, 400)))
    assert row["exact"]
    assert "% of the parameters went" in row["reason"]


def test_the_catalogue_names_what_the_core_bench_covers():
    families = ("vgg", "resnet", "resnext", "regnet", "densenet", "mobilenet_v2", "mobilenet_v3", "efficientnet")
    families += ("mnasnet", "shufflenet", "squeezenet", "googlenet", "inception", "gcn", "graphsage", "gat", "gin")
    for family in (*families, "mlp", "lenet5"):
        assert any(name.startswith(family) for name in names("core")), family
    assert all(entry(name).name == name for name in names("core"))


def test_unknown_networks_are_refused():
    with pytest.raises(CommandError, match=r"expected networks of .* got 'alexnot'"):
        entry("alexnot")


def test_nothing_is_left_constant():
    model = randomise_(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8)), seed=3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.std() > 0.01, name
    again = randomise_(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8)), seed=3)
    assert torch.equal(model[1].running_mean, again[1].running_mean)
