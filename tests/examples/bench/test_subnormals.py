import json

import torch
from torch import nn

import swdc
from examples.bench.measurements import subnormals
from examples.bench.measurements.subnormals import DECAYED, compared, decay_
from examples.bench.networks.entry import Entry
from tests.examples.bench.support_bench import run_bench


def test_a_share_of_every_layer_decays_and_keeps_its_sign():
    program = swdc.trace(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)).eval(), torch.randn(2, 10))
    before = program.clone().tensors
    assert decay_(program, 0.9) == 180 + 90
    for name in ("0.weight", "2.weight"):
        old, new = before[name], program.tensors[name]
        small = new.abs() == torch.tensor(DECAYED)
        assert int(small.sum()) == 0.9 * old.numel()
        assert torch.equal(new.sign(), old.sign())
        assert torch.equal(new[~small], old[~small])
        assert float(old[small].abs().max().detach()) < float(old[~small].abs().min().detach())
    assert torch.equal(program.tensors["0.bias"], before["0.bias"])
    assert decay_(program, 0.0) == 0


def test_runs_take_turns():
    told = []
    row = compared(lambda: told.append(0) or torch.zeros(2), lambda: told.append(1) or torch.tensor([0.0, -0.5]), 3)
    assert told[2:-2] == [0, 0, 1, 1] * 4  # a warm-up and three rounds, each with an untimed call first
    assert row["max_difference"] == 0.5
    assert row["speedup"] == row["before_ms"] / row["after_ms"]


def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_the_command_writes_rows_of_both_runtimes(tmp_path, monkeypatch):
    inputs = lambda: torch.randn(2, 3, 16, 16)  # noqa: E731
    monkeypatch.setattr(subnormals, "entry", lambda name, library: Entry(name, tiny, inputs))
    file = tmp_path / "rows.json"
    result = run_bench("subnormals", "--network", "tiny", "--side", 16, "--repeats", 1, "--json", file)
    assert result.exit_code == 0, result.output
    rows = json.loads(file.read_text())
    assert [row["runtime"] for row in rows] == ["onnxruntime", "eager"]
    for row in rows:
        assert row["network"] == "tiny"
        assert row["subnormal_weights"] == 194 + 36
        assert row["before_ms"] > 0
        assert row["max_difference"] <= 1e-7
    assert "tiny at 16 x 16, 230 weights of 1e-40" in result.output
