"""``swdc sweep``."""

import csv
from pathlib import Path

import pytest

from tests.artifacts.report.reading import Page
from tests.cli.support_cli import run, run_error, run_json


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a function in a file of the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(
        "def run(a_min, a_max, target, seed, hot=0):\n"
        "    if hot and a_max == hot: raise KeyboardInterrupt if seed else ValueError('too hot')\n"
        "    return {'accuracy': 90 - a_min, 'change': -1.0}\n"
    )
    return "train.py:run"


def test_a_sweep_leaves_a_table_a_csv_file_and_a_picture(experiment: str):
    values = ("--a-min", "0.1,1", "--a-max", "1e3:1e4", "--target", "0.9,0.5")
    result = run("sweep", experiment, *values, "--csv", "out/cells.csv", "--picture", "out/cells.png")
    assert result.exit_code == 0, result.stderr
    assert "target 0.9: best accuracy 89.9 at a_min 0.1, a_max 1000" in result.stdout
    with open("out/cells.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0] == {
        "target": "0.5", "a_max": "1000.0", "a_min": "0.1", "seed": "0", "accuracy": "89.9", "change": "-1.0"
    }  # fmt: skip
    assert Path("out/cells.png").read_bytes().startswith(b"\x89PNG")
    again = run_json("sweep", experiment, *values, "--report", "sweep.html")
    assert Page(Path("sweep.html")).data["sweep"] == again
    assert again["metric"] == "accuracy"
    assert len(again["cells"]) == 8
    assert [best["a_min"] for best in again["best"]] == [0.1, 0.1]


def test_failed_cells_are_told_with_code_1_and_interruptions_with_130(experiment: str):
    values = ("--a-min", "1", "--a-max", "10,100", "--arg", "hot=100")
    failed = run_json("sweep", experiment, *values, exit_code=1)
    assert [row["reason"] for row in failed["failed"]] == ["ValueError: too hot"]
    result = run("sweep", experiment, *values, "--seeds", "2")
    assert result.exit_code == 130
    assert "interrupted after 2 of 4 cells; the same command goes on" in result.stderr


def test_bad_input_is_code_2_with_a_message(experiment: str):
    assert "expected targets" in run_error("sweep", experiment, "--target", "90")
    assert "expected numbers for --a-min" in run_error("sweep", experiment, "--a-min", "low")
    assert "to take a_min=" in run_error("sweep", experiment, "--arg", "depth=2")
    assert "expected an experiment of resnet20, gcn" in run_error("sweep", "vgg")
    assert "got the folder" in run_error("sweep", experiment, "--csv", ".")
    assert "ends in .html, got cells.nope" in run_error("sweep", experiment, "--report", "cells.nope")
    assert "ends in .png, got cells.nope" in run_error("sweep", experiment, "--picture", "cells.nope")
    assert "'--seeds'" in run_error("sweep", experiment, "--seeds", "99999999999999999999")
    assert "one seed for tpe" in run_error("sweep", experiment, "--sampler", "tpe", "--seeds", "2")
