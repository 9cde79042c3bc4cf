"""Sweeps that end, fail, are interrupted and go on, in this process and in several."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swdc.cli.sweep.cells import Cell, Space
from swdc.cli.sweep.experiments import Experiment
from swdc.cli.sweep.optuna_study import Study, open_study
from swdc.cli.sweep.sweep import sweep
from swdc.cli.sweep.workers import Here, workers
from swdc.errors import CommandError

TRAIN = Experiment("train.py:run")
SPACE = Space((0.1, 1.0), (10.0, 100.0), (0.9,))


class Recorded(Here):
    """Runs a function of the test, and keeps the cells that it was called for."""

    def __init__(self, experiment: Experiment, function: Callable[..., Any]) -> None:
        self._experiment, self._waiting, self.cells = experiment, [], list[Cell]()

        def kept(**cell: Any) -> Any:
            self.cells.append(Cell.of(cell))
            return function(**cell)

        self._function = kept


TRAIN = Experiment("train.py:run")


def product(a_min: float, a_max: float, target: float, seed: int) -> float:
    return a_min * a_max


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """Open the study of a file, a new one in every test."""

    def opened(space: Space = SPACE, experiment: Experiment = TRAIN, **options: Any) -> Study:
        return open_study(str(tmp_path / "sweep.db"), "a study", space, experiment, **options)

    return opened


def run(study: Study, function: Callable[..., Any] = product) -> list[Cell]:
    recorded = Recorded(TRAIN, function)
    sweep(study, recorded)
    return recorded.cells


def test_every_cell_is_run_once_and_finished_ones_not_again(study: Callable[..., Study]):
    seen: list[tuple[int, int]] = []
    recorded = Recorded(TRAIN, product)
    sweep(study(), recorded, lambda text, done, total: seen.append((done, total)))
    assert recorded.cells == SPACE.cells()
    assert seen == [(done, 4) for done in range(5)]
    wider = Space((0.1, 1.0), (10.0, 100.0, 1000.0), (0.9,))
    assert run(study(wider)) == [cell for cell in wider.cells() if cell.a_max == 1000.0]
    assert [row.results["value"] for row in study().rows()] == [1.0, 10.0, 10.0, 100.0]
    (best,) = study(wider).best()
    assert (best.a_min, best.a_max, best.value, best.seeds) == (1.0, 1000.0, 1000.0, 1)


def test_the_best_place_is_that_with_the_best_mean_over_its_seeds(study: Callable[..., Study]):
    space = Space((0.1, 1.0), (10.0,), (0.5, 0.9), (0, 1))
    opened = study(space, minimize=True)
    run(opened, lambda a_min, a_max, target, seed: target * (1 - a_min) * (1 - 4 * seed) + a_min)
    assert [(b.target, b.a_min, b.seeds) for b in opened.best()] == [(0.5, 0.1, 2), (0.9, 0.1, 2)]
    assert opened.best()[0].value == pytest.approx(0.5 * 0.9 * (1 - 3) / 2 + 0.1)


def test_a_cell_that_fails_is_told_and_run_by_the_next_sweep(study: Callable[..., Study]):
    def fails(a_min: float, a_max: float, target: float, seed: int) -> float:
        if a_max == 100.0:
            raise RuntimeError("too hot")
        return a_min

    assert len(run(study(), fails)) == 4
    assert [(row.cell.a_max, row.reason) for row in study().failed()] == [(100.0, "RuntimeError: too hot")] * 2
    assert [cell.a_max for cell in run(study())] == [100.0, 100.0]
    assert not study().failed()
    assert study().done() == 4


def test_an_interrupted_sweep_leaves_no_cell_under_way_and_goes_on(study: Callable[..., Study]):
    def interrupted(a_min: float, a_max: float, target: float, seed: int) -> float:
        if a_min == 1.0:
            raise KeyboardInterrupt
        return a_min

    with pytest.raises(KeyboardInterrupt):
        run(study(), interrupted)
    assert study().done() == 1
    assert not study()._of("RUNNING")
    assert not study().failed()
    assert run(study()) == SPACE.cells()[1:]


def test_cells_of_a_process_that_is_gone_are_run_again_those_under_way_are_not(study: Callable[..., Study]):
    lost, running = study().claim(), study().claim()
    assert lost is not None
    assert running is not None
    (trial,) = [trial for _, trial in study()._of("RUNNING") if trial.number == lost[0]]
    storage = study()._study._storage
    storage.set_trial_user_attr(trial._trial_id, "owner", {"host": os.uname().nodename, "process": 2**22 + 1})
    assert run(study()) == [lost[1], *SPACE.cells()[2:]]
    (other,) = [trial for _, trial in study()._of("RUNNING")]
    storage.set_trial_user_attr(other._trial_id, "owner", {"host": "another machine", "process": 1})
    assert run(study()) == []
    storage.set_trial_user_attr(other._trial_id, "alive", 0.0)
    assert run(study()) == [running[1]]


def test_two_that_take_the_same_cell_do_not_both_get_it(study: Callable[..., Study]):
    first, second = study(), study()
    cells = SPACE.cells()
    both_saw = iter([cells[0].params(), cells[1].params()])
    second._next = lambda: next(both_saw)  # type: ignore[method-assign]
    assert first.claim() == (0, cells[0])
    assert second.claim() == (2, cells[1])
    assert [cell for cell, _ in study()._of("RUNNING")] == cells[:2]


def test_two_sweeps_at_once_share_the_cells(study: Callable[..., Study]):
    ran: list[Cell] = []

    def meanwhile(a_min: float, a_max: float, target: float, seed: int) -> float:
        ran.extend(run(study()))
        return a_min

    own = run(study(), meanwhile)
    assert own == SPACE.cells()[:1]
    assert ran == SPACE.cells()[1:]
    assert study().done() == 4


def test_a_cell_of_a_sweep_that_died_meanwhile_is_taken_up(study: Callable[..., Study]):
    lost = study().claim()
    assert lost is not None

    def dies(a_min: float, a_max: float, target: float, seed: int) -> float:
        (trial,) = [trial for _, trial in study()._of("RUNNING") if trial.number == lost[0]] or [None]
        if trial is not None:
            owner = {"host": os.uname().nodename, "process": os.getpid(), "started": "at another time"}
            study()._study._storage.set_trial_user_attr(trial._trial_id, "owner", owner)
        return a_min

    assert run(study(), dies) == [*SPACE.cells()[1:], lost[1]]


def test_a_result_that_comes_after_others_took_up_the_cell_is_dropped(study: Callable[..., Study]):
    slow, other = study(), study()
    claimed = slow.claim()
    assert claimed is not None
    other._study.tell(claimed[0], state=other._states.FAIL)
    slow.beat()
    slow.finish(claimed[0], {"value": 1.0})
    assert study().done() == 0
    assert len(run(study())) == 4


def test_tpe_draws_as_many_cells_as_asked_within_the_bounds(study: Callable[..., Study]):
    opened = study(sampler="tpe", trials=5)
    drawn = run(opened, lambda a_min, a_max, target, seed: float("nan") if a_min > 0.5 else a_min)
    assert len(drawn) == 5
    assert all(0.1 <= cell.a_min <= 1 and 10 <= cell.a_max <= 100 and cell.target == 0.9 for cell in drawn)
    assert len(set(drawn)) == 5
    assert opened.done() + len(opened.failed()) == 5


def test_a_study_of_other_settings_is_refused(study: Callable[..., Study], tmp_path: Path):
    run(study())
    for options in ({"minimize": True}, {"experiment": Experiment("other.py:run")}):
        with pytest.raises(CommandError, match="the settings that it was begun with"):
            study(**options)
    with pytest.raises(CommandError, match="got the folder"):
        open_study(str(tmp_path), "a study", SPACE, Experiment("gcn"))
    with pytest.raises(CommandError, match="a storage that optuna can open"):
        open_study("nodatabase://here", "a study", SPACE, Experiment("gcn"))
    with pytest.raises(CommandError, match="--trials of at least 1"):
        study(sampler="tpe")


def test_processes_run_cells_and_one_that_dies_costs_its_cell_only(study: Callable[..., Study], tmp_path: Path):
    file = tmp_path / "train.py"
    file.write_text(
        "import os\n"
        "def run(a_min, a_max, target, seed):\n"
        "    if a_min * a_max == 100: os._exit(7)\n"
        "    return {'value': a_min * a_max, 'process': os.getpid()}\n"
    )
    experiment = Experiment(f"{file}:run", "value")
    opened = study(experiment=experiment)
    sweep(opened, workers(experiment, 2))
    assert [row.results["value"] for row in opened.rows()] == [1.0, 10.0, 10.0]
    assert os.getpid() not in {row.results["process"] for row in opened.rows()}
    assert [row.reason for row in opened.failed()] == ["the process ended with code 7"]
