"""Random networks in plain numbers, failures that are found, made small and reported, runs that go on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from swdc.errors import CommandError
from swdc.ir.differences import flat_outputs
from swdc.ops.elementwise import Pointwise
from tests.fuzzing.__main__ import app
from tests.fuzzing.blocks import TABLE, Draw
from tests.fuzzing.checking import Check, check
from tests.fuzzing.network import STARTS, Spec, Step, build, draw_spec
from tests.fuzzing.precision import runs
from tests.fuzzing.report import Report, fuzz
from tests.fuzzing.shrinking import shrink
from tests.fuzzing.uses import USES, DifferenceError, Made, at_other_sizes, not_finite_alike, refused
from tests.support import Function

STEPS = (Step("dense_of_vector", 0), Step("perceptron", 2), Step("dropout", 1), Step("perceptron", 13))
SIGMOIDS = Spec("vector", 5, STEPS)
"""Perceptrons with a sigmoid between their layers."""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the compiler believe that every function of zero is zero."""
    monkeypatch.setattr(Pointwise, "combine", lambda *given: 0.0)


def test_a_seed_stands_for_a_network() -> None:
    spec = draw_spec(11)
    again = Spec.from_dict(json.loads(json.dumps(draw_spec(11).to_dict())))
    assert again == spec
    (one, inputs), (other, same) = build(spec), build(again)
    with torch.no_grad():
        pairs = zip(flat_outputs(one(*inputs)), flat_outputs(other(*same)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_every_start_comes_up() -> None:
    assert {draw_spec(seed, most=1).start for seed in range(100)} == set(STARTS)


def test_networks_are_drawn_in_narrow_types_in_which_they_run() -> None:
    narrow = [spec for seed in range(60) if (spec := draw_spec(seed, most=1)).types != "float64"]
    assert len({spec.types for spec in narrow}) > 3
    for spec in narrow:
        model, inputs = build(spec)
        assert runs(model, inputs)
        assert {str(x.dtype).removeprefix("torch.") for x in inputs if x.is_floating_point()} <= {
            spec.types.split("+")[0]
        }


@pytest.mark.parametrize("name", TABLE)
def test_every_block_is_used(name: str) -> None:
    takes = TABLE[name].takes
    starts = [s for s, layouts in STARTS.items() if "any" in takes or set(takes) <= {x.rstrip("123") for x in layouts}]
    tries = (draw_spec(seed, start=start, blocks=[name]) for seed in range(10) for start in starts)
    assert any(name in {step.block for step in spec.steps} for spec in tries)


def test_steps_may_be_dropped() -> None:
    spec = draw_spec(3, least=5)
    assert len(spec.steps) >= 5
    for number in range(len(spec.steps)):
        model, inputs = build(spec.without(number))
        assert flat_outputs(model(*inputs))


def test_most_networks_lose_channels() -> None:
    outcomes = [check(draw_spec(seed, most=3)) for seed in range(10)]
    assert sum(o.result == "exact" for o in outcomes) >= 6
    assert not [o.error for o in outcomes if o.result == "failed"]
    assert {operator for o in outcomes for operator in o.cut}
    assert sum(o.removed for o in outcomes) > 20


@cache
def made_of(spec: Spec) -> Made:
    checked = Check(spec)
    assert checked.run().result == "exact"
    assert checked.made is not None
    return checked.made


@pytest.mark.parametrize("name", USES)
def test_everything_is_done_with_networks(name: str) -> None:
    for start in ("graph", "words"):
        made = made_of(draw_spec(3, most=2, start=start))
        for seed in range(3):
            USES[name][1](made, Draw(seed))


def test_another_program_is_found_at_other_sizes() -> None:
    made, other = made_of(SIGMOIDS), made_of(replace(SIGMOIDS, steps=STEPS[:2]))
    with pytest.raises(DifferenceError, match="the program is not the model for inputs"):
        at_other_sizes(replace(made, program=other.program), Draw(0))


def test_what_is_not_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_of(SIGMOIDS)
    monkeypatch.setattr("swdc.ir.input_check.InputCheck.__call__", lambda *given: None)
    with pytest.raises(DifferenceError, match="are not refused"):
        refused(made, Draw(0))


def test_what_is_finite_in_one_program_only_is_found() -> None:
    made = made_of(SIGMOIDS)
    cleaned = Function(lambda own, x: torch.nan_to_num(own.model(x)), model=made.model)
    with pytest.raises(DifferenceError, match="the program is not finite where the model is"):
        not_finite_alike(replace(made, model=cleaned), Draw(0))


def test_what_is_wrong_is_found_and_made_small(broken: None) -> None:
    outcome = check(SIGMOIDS)
    assert (outcome.result, outcome.stage) == ("failed", "verify")
    assert "the slim program is not the masked one" in outcome.error
    small = shrink(outcome)
    assert len(small.spec.steps) < len(SIGMOIDS.steps)
    assert len(small.kept) == 1
    again = Check(small.spec, small.kept)
    assert again.run().signature == outcome.signature
    assert "slim:" in again.code()


def test_a_crash_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*given: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Pointwise, "fold", crash)
    outcome = check(SIGMOIDS)
    assert (outcome.result, outcome.stage) == ("failed", "analysis")


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fuzz.json"
    fuzz(2, seed=40, path=path)
    assert json.loads(path.read_text())["done"] == 2
    seen: list[int] = []
    report = fuzz(4, seed=40, path=path, announce=lambda done, failed: seen.append(done))
    assert seen == [2, 3]
    whole = fuzz(4, seed=40)
    assert (whole.results, whole.operators, whole.used) == (report.results, report.operators, report.used)
    assert Report.from_dict(json.loads(path.read_text())).results == whole.results


def test_reports_of_other_networks_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    fuzz(1, seed=7, path=path)
    with pytest.raises(CommandError, match=r"expected the report of seed 8 .* got seed 7 .* name a new file"):
        fuzz(1, seed=8, path=path)
    path.write_text("[1, 2]")
    with pytest.raises(CommandError, match=r"expected a report of python -m tests\.fuzzing in"):
        fuzz(1, seed=7, path=path)


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    result = CliRunner().invoke(app, ["--n", "2", "--seed", "100", "--json", str(path)])
    assert result.exit_code == 0, result.output
    assert "largest relative error" in result.output
    report = json.loads(path.read_text())
    assert sum(report["results"].values()) == report["done"] == 2


def test_the_command_fails_where_a_network_does(broken: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzzing.report.draw_spec", lambda seed: SIGMOIDS)
    result = CliRunner().invoke(app, ["--n", "1"])
    assert result.exit_code == 1
    assert "as small as it gets" in result.output
