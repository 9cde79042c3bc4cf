"""Functions that a sweep runs, and what they return."""

from pathlib import Path
from typing import Any

import pytest

import swdc
from swdc.cli.sweep.cells import Cell
from swdc.cli.sweep.experiments import EXPERIMENTS, Experiment
from swdc.errors import CommandError

CELL = Cell(target=0.9, a_max=1e4, a_min=0.1, seed=3)


def written(folder: Path, body: str, arguments: str = "a_min, a_max, target, seed") -> str:
    path = folder / "train.py"
    path.write_text(f"def run({arguments}):\n    {body}\n")
    return f"{path}:run"


def test_a_number_is_the_value(tmp_path: Path):
    experiment = Experiment(written(tmp_path, "return a_min * a_max + seed - target"))
    results = experiment.results(experiment.function(), CELL)
    assert results == {"value": 1000 + 3 - 0.9}
    assert experiment.value(results) == results["value"]


def test_of_several_numbers_the_accuracy_counts_or_the_metric(tmp_path: Path):
    name = written(tmp_path, "return {'accuracy': 90.0, 'loss': k}", "a_min, a_max, target, seed, k=2")
    for metric, value in ((None, 90.0), ("loss", 5.0)):
        experiment = Experiment(name, metric, {"k": 5})
        assert experiment.value(experiment.results(experiment.function(), CELL)) == value


def test_files_import_what_lies_beside_them(tmp_path: Path):
    (tmp_path / "beside_the_file.py").write_text("FOUR = 4\n")
    experiment = Experiment(written(tmp_path, "import beside_the_file; return beside_the_file.FOUR"))
    assert experiment.results(experiment.function(), CELL) == {"value": 4.0}
    assert experiment.elsewhere().name == experiment.name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 'good'", "to return a number"),
        ("return None", "to return a number"),
        ("return float('nan')", "a finite value, got nan"),
        ("return {'top1': 1.0, 'top5': 2.0}", "say which counts with --metric"),
    ],
)
def test_other_results_are_refused(tmp_path: Path, body: str, message: str):
    experiment = Experiment(written(tmp_path, body))
    with pytest.raises(CommandError, match=message):
        experiment.results(experiment.function(), CELL)


def test_functions_that_cannot_be_run_are_refused_before_the_sweep(tmp_path: Path):
    name = written(tmp_path, "return 1", "a_min, a_max")
    wrong = [
        (Experiment("nothing"), "expected an experiment of resnet20, gcn or file.py:function"),
        (Experiment(str(tmp_path / "absent.py:run")), "there is none; check the path"),
        (Experiment(name.replace(":run", ":walk")), "there is none; check the name"),
        (Experiment(name), "expected .* to take a_min=, a_max=, target=, seed="),
        (Experiment("gcn", arguments={"depth": 3}), "seed=, depth=, but it does not"),
    ]
    for experiment, message in wrong:
        with pytest.raises(CommandError, match=message):
            experiment.function()
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(CommandError, match="importable, but that raises ZeroDivisionError"):
        Experiment(f"{tmp_path}/broken.py:run").function()


def test_ours_return_accuracies_around_the_removal(
    gcn: object, monkeypatch: pytest.MonkeyPatch
):  # the fixture imports PyG without its warnings
    made: list[Any] = []

    class Noted(swdc.SWD):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)
            self.given = args[0]

    monkeypatch.setattr("swdc.cli.demo.run.SWD", Noted)
    experiment = Experiment("gcn", arguments={"epochs": 3})
    results = experiment.results(EXPERIMENTS["gcn"], Cell(target=0.5, a_max=10.0, a_min=1.0, seed=0))
    (swd,) = made
    assert (swd.a_min, swd.a_max, swd.s) == (1.0, 10.0, 3)
    assert swd.state_dict()["target"] == 0.5
    assert results["change"] == results["accuracy"] - results["accuracy_before"]
    assert 0 <= results["accuracy"] <= 100
    left = swdc.count(swdc.slim(swd.given, swd.plan()))
    assert (results["parameters"], results["macs"]) == (left.parameters, left.macs)
