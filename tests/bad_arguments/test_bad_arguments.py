"""A part of ``python -m tests.bad_arguments``: every seventh call."""

from pathlib import Path

from tests.bad_arguments.calls import Prepared
from tests.bad_arguments.sweep import RAN, REFUSED, WRONG, counts, outcomes


def test_wrong_arguments_are_refused_by_errors_of_swdc_and_right_ones_run(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    found = list(outcomes(prepared.targets(), prepared.made, every=7))
    assert not [each for each in found if each.kind in WRONG]
    assert counts(found)[REFUSED] > 900
    assert counts(found)[RAN] > 30
