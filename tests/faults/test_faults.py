"""A few dozen kills and changed folders; and both are found out if something is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import swdc
from swdc.export.folder import save as module
from tests.faults import kills
from tests.faults.children import judged
from tests.faults.folders import REFUSED, loaded, mutate, saved, seal
from tests.faults.kills import INPUT, kill_job


@pytest.mark.parametrize(("job", "runs"), [("save", 12), ("export", 6), ("streaming", 8), ("cache", 12), ("sweep", 3)])
def test_kills_lose_nothing_and_the_next_run_leaves_no_litter(job: str, runs: int) -> None:
    found = kill_job(job, runs, seed=7)
    assert found.fallen == []
    assert found.runs == runs


def test_changed_folders_are_refused_or_load_to_the_same_function() -> None:
    found = mutate(60, seed=7)
    assert found.fallen == []
    assert found.verdicts[REFUSED] > 30
    assert found.verdicts.total() == 60


def test_a_lost_folder_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(work: Any, seconds: float) -> bool:
        shutil.rmtree(work.func.__self__.place)
        return True

    monkeypatch.setattr(kills, "killed", removed)
    assert "nothing can be loaded" in kill_job("save", 1, 0).fallen[0]


def test_a_load_that_does_not_look_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path)[0]
    expected = swdc.load(folder)(INPUT)
    assert judged(lambda: loaded(folder, expected, False)) == "the same function"
    assert judged(lambda: loaded(folder, expected + 1, False)) == "another function"
    (folder / "graph.json").write_text("[]")
    seal(folder)
    assert judged(lambda: loaded(folder, expected, True)) == REFUSED

    def raw(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(module, "read_folder", raw)
    assert judged(lambda: loaded(folder, expected, True)).startswith("KeyError")


def test_a_process_that_dies_hangs_or_grows_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.children.DEADLINE", 0.2)
    assert judged(lambda: os._exit(3)).startswith("dies")
    assert judged(lambda: os.read(os.pipe()[0], 1).decode()).startswith("hangs")
    monkeypatch.setattr("tests.faults.children.DEADLINE", 10.0)
    monkeypatch.setattr("tests.faults.children.MEMORY", 10**8)
    assert judged(lambda: str(torch.ones(10**8).sum())).startswith("grows by 0.4 GB")
