"""``swdc count``."""

import pytest

import swdc
from tests.cli.support_cli import run, run_error, run_json


def test_layers_and_totals_are_printed() -> None:
    result = run("count", "tests.cli.small_models:mlp", "--input", "1x4")
    assert result.exit_code == 0, result.stderr
    assert "aten.linear.default" in result.stdout
    assert "operations (reference)" in result.stdout
    assert "multiply-adds (macs)" in result.stdout


def test_json_is_the_count_of_the_library() -> None:
    document = run_json("count", "tests.cli.small_models:mlp", "--input", "1x4")
    assert document["parameters"] == 4 * 8 + 8 + 8 * 3 + 3
    assert document["macs"] == 4 * 8 + 8 * 3
    assert document["convention"] == "paper"
    assert document["totals"] == {"paper": 67, "reference": 67, "macs": 56}
    assert [(layer["name"], layer["parameters"]) for layer in document["layers"]] == [("0", 40), ("2", 27)]
    assert document["before"] is None


@pytest.mark.parametrize("convention", ["paper", "reference", "macs"])
def test_the_convention_is_used(convention: str) -> None:
    document = run_json("count", "swdc.networks:LeNet5", "--input", "1x1x32x32", "--convention", convention)
    assert document["convention"] == convention
    assert document["operations"] == document["totals"][convention]
    assert len(set(document["totals"].values())) == 3


def test_sizes_are_counted_for_and_a_formula_is_given() -> None:
    document = run_json("count", "tests.cli.small_models:mlp", "--input", "1x4", "--size", "batch=3")
    assert document["sizes"] == {"batch": 3}
    assert document["formula"] == "67*batch"
    assert document["totals"] == {"paper": 3 * 67, "reference": 3 * 67, "macs": 3 * 56}
    result = run("count", "tests.cli.small_models:mlp", "--input", "1x4", "--size", "batch=3")
    assert "operations by the convention paper: 67*batch" in result.stdout
    assert "In all, for batch 3" in result.stdout


@pytest.mark.parametrize("size", ["batch", "batch=", "=3", "batch=-1", "batch=x", "length=3"])
def test_wrong_sizes_are_refused(size: str) -> None:
    message = run_error("count", "tests.cli.small_models:mlp", "--input", "1x4", "--size", size)
    assert "expected --size NAME=N" in message or "expected sizes by the names of those that are dynamic" in message


def test_resnet18_has_its_known_size() -> None:
    document = run_json("count", "torchvision.models:resnet18", "--input", "1x3x64x64")
    assert document["parameters"] == 11_689_512
    assert document["macs"] == 148_557_824


def test_a_defect_is_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> swdc.Program:
        raise KeyError("oops")

    monkeypatch.setattr("swdc.cli.count.load_program", fails)
    result = run("count", "tests.cli.small_models:mlp", "--input", "1x4")
    assert result.exit_code == 3
    assert "KeyError: 'oops'" in result.stderr


def test_missing_extras_are_named() -> None:
    message = run_error("count", "tests.cli.small_models:wants_timm", "--input", "1x4")
    assert "install it with pip install 'swdc[bench]'" in message
