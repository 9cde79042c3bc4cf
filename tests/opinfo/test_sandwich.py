"""A part of PyTorch's own samples: ``python -m tests.opinfo`` runs all of them."""

from __future__ import annotations

import pytest
import torch

from tests.opinfo import sandwich
from tests.opinfo.sandwich import (
    EXACT,
    FROZEN,
    NOT_APPLICABLE,
    RAW,
    WRONG,
    Case,
    Outcome,
    checked,
    outcomes_of,
    samples_of,
)

SHARE = 14
"""One of this many operators is tried."""


@pytest.mark.parametrize("part", range(4))
def test_no_rule_is_wrong_and_none_fails(part: int) -> None:
    names = list(sandwich.operators())[part * SHARE :: 4 * SHARE]
    outcomes = [outcome for name in names for outcome in outcomes_of(name, most=1)]
    assert [outcome for outcome in outcomes if outcome.result in (WRONG, RAW)] == []
    assert {EXACT, FROZEN} <= {outcome.result for outcome in outcomes}


@pytest.mark.parametrize(
    "operator",
    ["linalg.diagonal", "view", "reshape", "nn.functional.prelu", "nn.functional.rms_norm", "nn.functional.unfold"],
)
def test_operators_that_failed_once(operator: str) -> None:
    assert {outcome.result for outcome in outcomes_of(operator, most=4)} <= {EXACT, FROZEN, NOT_APPLICABLE}


def result_of(operator: str) -> Outcome:
    return checked(Case(operator, 0, 0), samples_of(operator, 1)[0])


def test_a_wrong_rule_and_a_rule_that_fails_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert result_of("sin").result == EXACT
    monkeypatch.setattr(sandwich, "_difference", lambda *_: 1e-3)
    assert result_of("sin") == Outcome(Case("sin", 0, 0), WRONG, "relative error 1.0e-03")
    monkeypatch.setattr(sandwich, "_difference", lambda *_: torch.zeros(2)[5])
    assert result_of("sin").result == RAW
    assert result_of("bernoulli").result == NOT_APPLICABLE
