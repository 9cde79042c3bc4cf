import copy
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.compression import compress as module
from swdc.artifacts.compression.deployment import OnnxModel
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.errors import PlanError
from tests.artifacts.compression.support_compression import DATA, X, accuracy, arguments, network
from tests.support import assert_equal


def test_a_smaller_network_is_found_written_and_proven(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    given = {**arguments(), "progress": True}
    model, before = given["model"], copy.deepcopy(given["model"].state_dict())
    state = torch.get_rng_state()
    result = swdc.compress(**given, folder=tmp_path / "out", int8=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal(dict(model.state_dict()), dict(before))
    assert result.found
    assert result.metric_before == accuracy(model)
    assert result.metric == accuracy(result.program) >= result.metric_before - 0.05
    assert result.costs["parameters"] == swdc.count(result.program).parameters < 0.6 * result.costs_before["parameters"]
    assert len(result.cuts) == len(result.plans) == sum(trial.good for trial in result.trials) > 0
    assert all(certificate.exact and certificate.removed_channels for certificate in result.certificates)
    saved = swdc.load(result.files["slim"])
    assert_equal(saved(X), result.program(X))
    file = OnnxModel(lambda inputs: run_onnx(result.files["onnx"], inputs))
    assert accuracy(file) == pytest.approx(result.deployed.metric)
    assert result.deployed.int8.score >= result.metric_before - 0.05
    assert result.files["int8"].is_file()
    assert json.loads(result.files["report"].read_text())["trials"] == [trial.to_dict() for trial in result.trials]
    assert "gone" in str(result)
    told = capfd.readouterr().err.splitlines()
    assert told[0] == f"dense: metric {result.metric_before:.4g}"
    assert told[1:] == [str(trial) for trial in result.trials]


def test_the_plans_make_the_network_of_each_cut_from_the_one_before(tmp_path: Path):
    result = swdc.compress(**arguments(), folder=tmp_path, onnx=False)
    program = swdc.trace(network(), X[:2])
    for cut in result.cuts:
        program = swdc.slim(program, cut.plan)
    assert {name: t.shape for name, t in program.tensors.items()} == {
        name: t.shape for name, t in result.program.tensors.items()
    }
    assert not any((tmp_path / "trials").glob("*/recovery"))


def test_more_trials_go_on_where_fewer_ended_and_end_with_the_same(tmp_path: Path):
    whole = swdc.compress(**arguments(), folder=tmp_path / "one", onnx=False)
    swdc.compress(**{**arguments(), "trials": 1}, folder=tmp_path / "two", onnx=False)
    rest = swdc.compress(**arguments(), folder=tmp_path / "two", onnx=False)
    assert rest.trials == whole.trials
    assert rest.plans == whole.plans
    assert_equal(dict(rest.program.tensors), dict(whole.program.tensors))


def test_a_run_that_fails_within_a_trial_goes_on_and_ends_with_the_same(tmp_path: Path, monkeypatch):
    whole = swdc.compress(**arguments(), folder=tmp_path / "one", onnx=False)
    run, calls = module.Cutter.run, []

    def failing(self, share, base):
        calls.append(share)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, share, base)

    monkeypatch.setattr(module.Cutter, "run", failing)
    with pytest.raises(KeyboardInterrupt):
        swdc.compress(**arguments(), folder=tmp_path / "two", onnx=False)
    rest = swdc.compress(**arguments(), folder=tmp_path / "two", onnx=False)
    assert calls[2] == calls[1], "the trial that was under way is run again"
    assert rest.trials == whole.trials
    assert_equal(dict(rest.program.tensors), dict(whole.program.tensors))


def test_if_nothing_is_good_enough_the_dense_program_comes_back(tmp_path: Path):
    def strict(program: nn.Module) -> float:
        return -float((program(X) - wanted).abs().max())

    given = arguments()
    wanted = given["model"](X).detach()
    changed = {"metric": strict, "most_drop": 0.0, "trials": 2, "epochs": 0}
    result = swdc.compress(**{**given, **changed}, folder=tmp_path)
    assert not result.found
    assert result.cuts == ()
    assert_equal(result.program(X), wanted)
    assert [trial.good for trial in result.trials] == [False, False]
    assert set(result.files) == {"report"}
    assert "the program is the dense one" in str(result)


def test_without_training_layers_are_solved_again_and_criteria_may_read_data():
    changed = {"epochs": 0, "criterion": "taylor", "budget": "macs", "most_drop": 0.2, "trials": 2}
    result = swdc.compress(**{**arguments(), **changed})
    assert result.found
    assert result.costs["macs"] < 0.6 * result.costs_before["macs"]
    assert result.files == {}
    assert all(cut.plan.settings["criterion"].startswith("taylor") for cut in result.cuts)


def test_a_cut_that_is_not_exact_is_not_good(monkeypatch):
    verify = swdc.verify

    def doubtful(*args, **options):
        certificate = verify(*args, **options)
        object.__setattr__(certificate, "exact", False)
        return certificate

    monkeypatch.setattr("swdc.artifacts.compression.cutting.verify", doubtful)
    result = swdc.compress(**{**arguments(), "trials": 1})
    assert not result.found
    assert result.trials[0].reason.startswith("not exact")


def test_what_cannot_be_exported_is_a_note_and_the_network_stays(tmp_path: Path, monkeypatch):
    def broken(*_, **__):
        raise swdc.SwdcError("no such file")

    monkeypatch.setattr("swdc.artifacts.compression.deployment.export_onnx", broken)
    result = swdc.compress(**{**arguments(), "trials": 1}, folder=tmp_path)
    assert result.deployed.notes == ("slim.onnx was not written: no such file",)
    assert set(result.files) == {"slim", "report"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"most_drop": -0.1}, "most_drop that is not negative"),
        ({"most_drop": math.nan}, "most_drop"),
        ({"budget": "watts"}, "expected a budget"),
        ({"trials": 0}, "trials as a whole number of at least 1"),
        ({"epochs": -1}, "epochs as a whole number of at least 0"),
        ({"rate": 0.0}, "rate as a positive number"),
        ({"seed": -1}, "seed"),
        ({"criterion": "best"}, "expected a criterion"),
        ({"ignore": "none"}, "matches none"),
        ({"metric": lambda model: math.nan}, "got NaN"),
        ({"metric": lambda model: "high"}, "metric as a function of a program"),
        ({"data": []}, "at least one batch"),
        ({"storage": "sqlite://"}, "expected a folder together with a storage"),
        ({"folder": ""}, "got an empty path"),
        ({"folder": __file__}, "expected a folder to work in"),
    ],
)
def test_bad_arguments_are_refused(changed, message):
    with pytest.raises(PlanError, match=message):
        swdc.compress(**{**arguments(), **changed})


def test_a_folder_of_another_compression_is_refused_and_stays(tmp_path: Path):
    given = {**arguments(), "trials": 1, "onnx": False}
    swdc.compress(**given, folder=tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(PlanError, match="one whose most_drop differ"):
        swdc.compress(**{**given, "most_drop": 0.1}, folder=tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_missing_optuna_is_told(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(swdc.SwdcError, match=r"pip install 'swdc\[compress\]'"):
        swdc.compress(**arguments())


def test_batches_may_hold_anything_that_inputs_takes_apart():
    data = [{"images": x, "labels": y} for x, y in DATA]
    changed = {"data": data, "inputs": lambda batch: batch["images"], "loss": None, "trials": 1}
    assert len(swdc.compress(**{**arguments(), **changed}).trials) == 1
