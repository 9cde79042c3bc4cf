"""A few dozen kills and changed folders; and both are found out if something is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from swdc.artifacts.folder import save as module
from tests.faults import kills
from tests.faults.children import judged
from tests.faults.folders import FORGED, REFUSED, mutate, read, saved
from tests.faults.kills import kill_job


@pytest.mark.parametrize(
    ("job", "runs"), [("save", 12), ("export", 6), ("streaming", 8), ("cache", 12), ("sweep", 3), ("compress", 2)]
)
def test_kills_lose_nothing_and_the_next_run_leaves_no_litter(job: str, runs: int) -> None:
    found = kill_job(job, runs, seed=7)
    assert found.fallen == []
    assert found.runs == runs


def test_changed_folders_are_refused() -> None:
    found = mutate(50, seed=7)
    assert found.fallen == []
    assert found.verdicts == {REFUSED: 50}
    assert 0 < found.seconds < 10


def test_forged_folders_are_refused_or_programs() -> None:
    found = mutate(40, seed=7, forged=True)
    assert found.fallen == []
    assert found.verdicts[REFUSED] > 15
    assert found.verdicts.total() == 40


def test_a_lost_folder_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(work: Any, seconds: float) -> bool:
        shutil.rmtree(work.func.__self__.place)
        return True

    monkeypatch.setattr(kills, "killed", removed)
    assert "nothing can be loaded" in kill_job("save", 1, 0).fallen[0]


def test_a_load_that_does_not_look_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path)[1]
    assert read(folder, False) == FORGED
    (folder / "graph.json").write_text("[]")
    assert read(folder, True) == REFUSED

    def raw(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(module, "read_folder", raw)
    assert read(folder, True).startswith("KeyError")
    monkeypatch.setattr(module, "read_folder", lambda *_: torch.set_grad_enabled(False))
    assert judged(lambda: read(folder, False)).verdict == "leaves the process in another state"


def test_a_process_that_dies_hangs_or_grows_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.children.DEADLINE", 0.2)
    assert judged(lambda: os._exit(3)).verdict.startswith("dies")
    assert judged(lambda: os.read(os.pipe()[0], 1).decode()).verdict.startswith("hangs")
    monkeypatch.setattr("tests.faults.children.DEADLINE", 10.0)
    monkeypatch.setattr("tests.faults.children.MEMORY", 10**8)
    assert judged(lambda: str(torch.ones(10**8).sum())).verdict.startswith("grows by 0.4 GB")
