from pathlib import Path

import pytest

import swdc
from tests.artifacts.report.reading import Page
from tests.cli.support_cli import run, run_error, run_json

TASK = """
from tests.artifacts.compression.support_compression import arguments

def task(most_drop=0.05):
    made = {**arguments(), "most_drop": most_drop, "epochs": 1}
    del made["progress"]
    return made

def strict():
    return {**task(0.0), "metric": lambda model: -float(next(iter(model.parameters())).numel() != 144)}

def other():
    return 3

def broken():
    raise ValueError("no data")
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TASK)
    return "train.py:task"


def test_a_task_is_compressed_and_told(task: str):
    options = ("--out", "small", "--trials", "1", "--budget", "macs")
    found = run_json("compress", task, *options, "--no-onnx", "--arg", "most_drop=0.3")
    assert found["found"]
    assert found["most_drop"] == 0.3
    assert found["budget"] == "macs"
    assert found["costs"]["macs"] < 0.6 * found["costs_before"]["macs"]
    assert swdc.count(swdc.load(found["files"]["slim"])).macs == found["costs"]["macs"]
    again = run("compress", task, *options, "--no-onnx", "--most-drop", "0.3", "--report", "page.html")
    assert again.exit_code == 0, again.stderr
    assert Page(Path("page.html")).data == {"title": f"Compression of {task}", "compression": found}
    assert "wrote page.html" in again.stdout
    assert "certificate exact" in again.stdout
    assert "macs" in again.stdout


def test_nothing_good_enough_is_code_1(task: str):
    result = run("compress", "train.py:strict", "--out", "small", "--trials", "1", "--epochs", "0", "--no-onnx")
    assert result.exit_code == 1, result.stderr
    assert "the program is the dense one" in result.stdout


def test_bad_input_is_code_2_with_a_message(task: str):
    assert "expected a file none.py" in run_error("compress", "none.py:task", "--out", "small")
    assert "return a dict with model, example, data, metric" in run_error(
        "compress", "train.py:other", "--out", "small"
    )
    assert "raises ValueError: no data" in run_error("compress", "train.py:broken", "--out", "small")
    assert "ends in .html" in run_error("compress", task, "--out", "small", "--report", "page.txt")
    assert "names a folder" in run_error("compress", task, "--out", "train.py").replace("to name", "names")
    assert "'--trials'" in run_error("compress", task, "--out", "small", "--trials", "0")
