import json
from functools import partial

import pytest
import torch
from torch import nn

from examples.bench.measurements import latency as bench
from examples.bench.measurements.latency import Network, Settings, key, latency
from examples.bench.networks.entry import Entry
from examples.bench.peer.variants import CLOSE, dense_and_ours, peers
from examples.bench.running.profiling import compared, operators_ms
from examples.bench.running.runtimes import SETTLE, SETUPS, Setup, timed_ms
from swdc.artifacts.onnx.export import export_onnx
from swdc.capture.trace import trace
from swdc.costs.count import count
from tests.examples.bench.support_bench import run_bench

SHAPE = (3, 8, 8)


def small(width=32):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10),
    )  # fmt: skip


def run(*arguments):
    return run_bench("latency", *arguments)


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.setattr(bench, "NETWORKS", {"small": Network(small, 8), "other": Network(small, 8)})
    monkeypatch.setattr(bench, "SETUPS", (Setup("onnxruntime", 1), Setup("eager", 1)))
    monkeypatch.setattr("examples.bench.latency.NETWORKS", bench.NETWORKS)
    monkeypatch.setattr("examples.bench.latency.SETUPS", bench.SETUPS)


def test_the_command_writes_rows_and_goes_on_where_it_stopped(networks, tmp_path):
    path = tmp_path / "rows.json"
    result = run("--network", "small", "--batch", 2, "--repeats", 3, "--json", path)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())
    assert [(r["runtime"], r["method"]) for r in rows] == [
        ("onnxruntime", "ours"), ("onnxruntime", "peer"), ("eager", "ours"), ("eager", "peer"),
    ]  # fmt: skip
    for row in rows:
        assert (row["network"], row["batch"], row["threads"], row["reason"], row["runs"]) == ("small", 2, 1, "", 3)
        assert row["mac_ratio"] == row["dense_macs"] / row["slim_macs"] > 1
        assert row["speedup"] == row["dense_ms"] / row["slim_ms"] > 0
        explained = row["runtime"] == "onnxruntime" and row["speedup"] < 0.95 * row["mac_ratio"]
        assert bool(row["profile"]) == explained
    assert "speed-up" in result.output

    path.write_text(json.dumps(rows[:2]))
    run("--network", "small", "--batch", 2, "--repeats", 3, "--json", path)
    again = json.loads(path.read_text())
    assert again[:2] == rows[:2]
    assert list(map(key, again)) == list(map(key, rows))


def test_rows_of_other_settings_are_not_gone_on_with():
    settings = Settings(repeats=3)
    assert settings.same(dict(settings.facts))
    for other in (Settings(0.5, repeats=3), Settings(round_to=4, repeats=3), Settings(), Settings(repeats=3, seed=1)):
        assert not other.same(dict(settings.facts))


def test_what_fails_is_a_row_with_a_reason(networks, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no way")

    monkeypatch.setattr(bench, "peers", fails)
    rows = list(latency(["small"], [1], Settings(repeats=1)))
    ours, peer = rows[:2]
    assert (ours["method"], ours["reason"]) == ("ours", "")
    assert ours["speedup"] > 0
    assert (peer["reason"], peer["speedup"], peer["mac_ratio"]) == ("RuntimeError: no way", None, None)


def test_a_compiler_that_fails_does_not_end_the_bench(networks, monkeypatch):
    monkeypatch.setattr(bench, "SETUPS", (Setup("compile", 1), Setup("eager", 1)))
    monkeypatch.setattr(torch, "compile", lambda *_, **__: (_ for _ in ()).throw(OSError("no compiler")))
    rows = list(latency(["small"], [1], Settings(repeats=1)))
    assert [bool(row["reason"]) for row in rows] == [True, True, False, False]
    assert rows[0]["reason"] == "compile of the dense network fails: OSError: no compiler"


def test_compiled_networks_are_timed(networks, monkeypatch):
    monkeypatch.setattr(bench, "SETUPS", (Setup("compile", 1),))
    monkeypatch.setattr(torch, "compile", lambda program, dynamic: program)  # a real one takes half a minute
    assert all(row["speedup"] > 0 for row in latency(["small"], [1], Settings(repeats=1)))


def test_unknown_networks_are_refused(networks):
    result = run("--network", "alexnot")
    assert result.exit_code == 2
    assert "expected networks of small, other, got 'alexnot'" in result.output


def test_both_methods_leave_the_share_of_the_multiply_adds():
    torch.manual_seed(0)
    entry = Entry("wide", lambda: small(128), lambda: torch.randn(2, *SHAPE))
    model, dense, ours = dense_and_ours(entry, 0.25, 1, seed=0)
    theirs = peers(model, torch.randn(2, *SHAPE), ours.macs, 1, lambda model: None)
    assert 0.2 * dense.macs < ours.macs <= 0.25 * dense.macs
    assert abs(theirs.macs / ours.macs - 1) <= CLOSE
    for variant in (dense, ours, theirs):
        assert count(variant.program).macs == variant.macs
        assert not [module for module in variant.program.modules() if isinstance(module, nn.BatchNorm2d)]


def test_what_pruning_leaves_to_the_user_is_done():
    model = small().eval()
    seen = []
    theirs = peers(model, torch.randn(2, *SHAPE), count(trace(model, torch.randn(2, *SHAPE))).macs // 4, 4, seen.append)
    assert seen[-1][0].out_channels < 32
    assert model[0].out_channels == 32, "the dense network was cut"
    assert theirs.macs > 0


def test_a_profile_tells_the_time_of_each_operator(tmp_path):
    images = torch.randn(1, *SHAPE)
    file = export_onnx(trace(small().eval(), images), tmp_path / "net.onnx").path
    times = operators_ms(file, images, runs=3)
    assert times
    assert all(time > 0 for time in times.values())
    assert "Conv 3x3" in times
    top = compared(file, file, images)
    shares = [each["slim_share"] for each in top]
    assert shares == sorted(shares, reverse=True)
    assert 0.5 < sum(shares) <= 1 + 1e-9
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_profile_tells_convolutions_apart(tmp_path):
    images = torch.randn(1, 16, 8, 8)
    model = nn.Sequential(nn.Conv2d(16, 16, 5, groups=16), nn.Conv2d(16, 8, 1))
    file = export_onnx(trace(model, images), tmp_path / "net.onnx").path
    assert {"Conv 5x5 depthwise", "Conv 1x1"} <= set(operators_ms(file, images, runs=2))


def test_runs_are_fewer_where_each_takes_long(monkeypatch):
    calls = {"dense": lambda: None, "ours": lambda: None}
    assert {len(times) for times in timed_ms(calls, 7).values()} == {7}
    monkeypatch.setattr("examples.bench.running.runtimes.SECONDS", 0.0)
    assert {len(times) for times in timed_ms(calls, 7).values()} == {3}
    assert timed_ms({}, 7) == {}


def test_a_turn_begins_with_a_call_that_does_not_count():
    made: list[str] = []
    timed_ms({name: partial(made.append, name) for name in ("dense", "slim")}, 3)
    turns = ["dense"] * (SETTLE + 1) + ["slim"] * (SETTLE + 1)
    assert made == ["dense", "slim", *turns * 4]  # once for the estimate, one warm-up and three timed rounds


def test_the_setups_of_the_issue():
    assert [(s.runtime, s.threads) for s in SETUPS] == [
        ("onnxruntime", 1), ("onnxruntime", 2), ("eager", 1), ("compile", 1),
    ]  # fmt: skip
    assert list(bench.NETWORKS) == ["resnet50", "mobilenet_v2", "vit_b_16", "resnet20-64"]
