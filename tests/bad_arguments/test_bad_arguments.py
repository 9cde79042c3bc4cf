"""A part of ``python -m tests.bad_arguments``: of the bad values for each argument, every third."""

from pathlib import Path

import pytest

from tests.bad_arguments import calls
from tests.bad_arguments.sweep import RAW, REFUSED, SILENT, outcomes


def test_bad_arguments_are_refused_by_errors_of_swdc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.bad_arguments.sweep.NEVER", calls.NEVER[::3])
    found = list(outcomes(calls.targets(tmp_path)))
    assert not [each for each in found if each.kind in (RAW, SILENT)]
    assert sum(each.kind == REFUSED for each in found) > 900
