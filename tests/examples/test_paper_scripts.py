"""The scripts from the command line to the rows, the pictures and RESULTS.md, on data of a few images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import figure3
import figure5
import grid_gcn
import pytest
import results
import table4
import table10
from common import running

from tests.examples.test_paper_gcn import small_graph

Run = Callable[..., None]


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def test_a_grid_leaves_rows_a_picture_and_is_not_run_again(
    mnist: Path, tmp_path: Path, run_script: Run, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    asked = ("--data", mnist, "--out", out, "--epochs", 2, "--subset", 20, "--batch", 10, "--methods", "swd")
    asked += ("--a-min", "0.1,1", "--a-max", "1e3", "--targets", "90")
    run_script(table4, *asked)
    rows = rows_of(out / "table4.json")
    assert [(row["a_min"], row["a_max"], row["epochs_trained"]) for row in rows] == [(0.1, 1e3, 2), (1.0, 1e3, 2)]
    for row in rows:
        assert row["change"] == row["accuracy"] - row["accuracy_before"]
        assert row["parameters_left"] == row["parameters"] - int(0.9 * row["parameters"])
        assert row["command"].startswith("python examples/paper/table4.py --data ROOT --out DIR --epochs 2")
    assert (out / "table4.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(running, "training_of", None)  # nothing is trained again
    run_script(table4, *asked)
    assert rows_of(out / "table4.json") == rows
    assert not list((out / "states").glob("[!s]*.pt")) if (out / "states").exists() else True


def test_structured_networks_are_slimmed_with_certificates_and_stand_in_the_results(
    cifar: Path, tmp_path: Path, run_script: Run
):
    out = tmp_path / "out"
    methods = ("dense", "slimming", "thin", "swd", "magnitude")
    asked = ("--epochs", 1, "--width", 4, "--batch", 10, "--targets", 75, "--methods", *methods)
    run_script(figure3, "--data", cifar, "--out", out, *asked)
    rows = {(row["structure"], row["method"]): row for row in rows_of(out / "tradeoff.json")}
    assert set(rows) == {
        ("weights", "dense"), ("weights", "magnitude"), ("weights", "swd"), ("channels", "dense"),
        ("channels", "slimming"), ("channels", "thin"), ("channels", "swd"),
    }  # fmt: skip
    for method in ("slimming", "swd"):
        row = rows["channels", method]
        assert row["accuracy"] == row["accuracy_slim"]
        assert row["max_relative_error"] < 1e-9
        assert row["parameters_left"] <= 0.25 * row["parameters"] < row["parameters_left"] + 200
        assert row["operations_left"] < row["operations"] < row["operations_reference"] * 2
    assert rows["channels", "thin"]["parameters"] <= 0.25 * rows["channels", "dense"]["parameters"]
    assert (out / "figure3.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "notes.md").write_text("# Notes\n\n## tradeoff\n\nToo few images to learn from.\n")
    written = tmp_path / "RESULTS.md"
    run_script(results, "--rows", out, "--notes", tmp_path / "notes.md", "--out", written)
    text = written.read_text()
    assert "Scaled down: 1 epochs instead of 300; width 4" in text
    assert "### ResNet-20-4, structured pruning" in text
    assert "Too few images to learn from." in text
    assert "![figure3](out/figure3.png)" in text
    assert str(tmp_path) not in text


def test_every_method_prunes_the_graph_network_to_the_weight(
    tmp_path: Path, run_script: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("common.networks._graph", lambda name, data: small_graph())
    out = tmp_path / "out"
    methods = ("dense", "magnitude", "lr_rewinding", "growing_l2", "uniform_decay", "decay", "swd", "swd-proximal")
    asked = ("--data", tmp_path, "--out", out, "--epochs", 12, "--seeds", 2, "--targets", 50, 90, "--width", 4)
    run_script(figure5, *asked, "--methods", *methods)
    rows = rows_of(out / "figure5.json")
    assert len(rows) == 2 * (1 + 2 * 7)
    for row in rows:
        if row["method"] != "dense":
            assert row["parameters_left"] <= row["parameters"] - int(row["target"] * row["parameters"])
    assert (out / "figure5.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((out / "states").glob("shared-*.pt"))) == 2 * 2  # dense, and growing decay


def test_grids_of_several_data_sets_stand_in_one_section(
    tmp_path: Path, run_script: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("common.networks._graph", lambda name, data: small_graph())
    out, written = tmp_path / "out", tmp_path / "RESULTS.md"
    asked = ("--epochs", 3, "--width", 4, "--targets", 50, "--a-min", "0.1", "--a-max", "1e3,1e6")
    run_script(grid_gcn, "--data", tmp_path, "--out", out, *asked)
    rows = rows_of(out / "grids.json")
    assert [(row["method"], row["a_max"]) for row in rows] == [("swd", 1e3), ("swd", 1e6), ("swd-auto", None)]
    images = {**rows[0], "network": "resnet20", "dataset": "cifar10", "epochs": 300, "width": 64, "batch": 64}
    (out / "grids.json").write_text(json.dumps([*rows, images]))
    run_script(results, "--rows", out, "--notes", tmp_path / "none.md", "--out", written)
    text = written.read_text()
    assert "Cora: Seeds: 0. Epochs: 3. Scaled down: 3 epochs instead of 2000; width 4 (the paper also has 16)." in text
    assert "cifar10: Seeds: 0. Epochs: 300. Scaled down: batches of 64 instead of 128." in text
    assert "### gcn on Cora, unstructured pruning, 50 %" in text
    assert "![grid-gcn](out/grid-gcn.png)" in text


def test_the_cost_of_an_epoch_is_told_beside_that_of_swd(cifar: Path, tmp_path: Path, run_script: Run):
    out = tmp_path / "out"
    asked = ("--epochs", 1, "--width", 4, "--batch", 10, "--networks", "resnet20")
    run_script(table10, "--data", cifar, "--out", out, *asked)
    rows = rows_of(out / "table10.json")
    assert [(row["method"], row["structure"]) for row in rows] == [
        ("dense", "weights"), ("swd", "weights"), ("swd", "channels")
    ]  # fmt: skip
    plain = rows[0]["seconds_per_epoch"]
    assert all(row["increase"] == pytest.approx(100 * (row["seconds_per_epoch"] / plain - 1)) for row in rows)


def test_what_users_can_mend_is_said_in_a_line(tmp_path: Path, run_script: Run):
    with pytest.raises(SystemExit, match="error: expected MNIST as torchvision keeps it"):
        running.guarded(lambda: run_script(table4, "--data", tmp_path, "--out", tmp_path / "out"))
    with pytest.raises(SystemExit, match="error: expected rows of the experiments"):
        running.guarded(lambda: run_script(results, "--rows", tmp_path))
    with pytest.raises(SystemExit):
        run_script(table4, "--data", tmp_path, "--targets", "100")
