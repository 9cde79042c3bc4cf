"""The list of ways of capture: their order, and where the reasons of those that fail are kept."""

from __future__ import annotations

import logging
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.capture.by_export import Export
from swdc.capture.by_recording import Record
from swdc.capture.captured_graph import Captured
from swdc.capture.trace import trace_recorded
from swdc.capture.way import CannotCapture, Subject, Way
from swdc.capture.ways import WAYS
from swdc.errors import ExportError, TraceError
from tests.support import Function, assert_same, image

LIST = "swdc.capture.trace.WAYS"


class Refusing(Way):
    name = "refuse"

    def capture(self, subject: Subject) -> Captured:
        subject.model.kept = "by a way that failed"
        warnings.warn("heard by nobody", stacklevel=2)
        raise CannotCapture("it does not like the model")


class Hopeless(Way):
    name = "hopeless"

    def capture(self, subject: Subject) -> Captured:
        raise TraceError("expected a model that some way can capture, got another; change it")


class Fourth(Way):
    """Does as recording does, and says so."""

    name = "fourth"

    def capture(self, subject: Subject) -> Captured:
        return replace(Record().capture(subject), notes=("captured by the fourth way",))


def shy(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Fails where its operators are watched."""
    if torch._C._len_torch_dispatch_stack() or torch._ops._len_torch_dispatch_stack_pre_dispatch():
        raise RuntimeError("watched")
    result: torch.Tensor = m.linear(x)
    return result


def branching(m: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = m.linear(x) if x.sum() > -1e9 else x
    return result


def model(function: Any = lambda m, x: m.linear(x)) -> Function:
    return Function(function, linear=nn.Linear(5, 4).double()).eval()


def test_the_order_of_the_ways() -> None:
    assert [way.name for way in WAYS] == ["follow", "export", "record"]


def test_what_the_first_way_captures_has_no_failed_attempts() -> None:
    facts = swdc.trace(model(), image(2, 5)).facts
    assert facts.captured_by == "follow"
    assert facts.attempts == ()


def picking(m: Any, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    return y[[True] * 6] + y.index_add(0, edges[0], y[edges[1]])


@pytest.mark.filterwarnings("ignore:the leading size of the inputs is fixed")
def test_facts_say_why_the_ways_before_could_not() -> None:
    facts = swdc.trace(model(picking), (image(6, 5), torch.randint(6, (2, 9)))).facts
    assert facts.captured_by == "export"
    assert facts.attempts == (("follow", "the inputs share no batch"),)


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_reasons_of_torch_are_kept_with_their_type_and_on_one_line() -> None:
    facts = swdc.trace(model(branching), image(2, 5)).facts
    assert facts.captured_by == "record"
    (follow, why), (export, because) = facts.attempts
    assert (follow, export) == ("follow", "export")
    assert why.startswith("RuntimeError: Tensor.item() cannot be called on meta tensors")
    assert because.startswith("GuardOnDataDependentSymNode: Could not guard on data-dependent expression")
    assert "\n" not in why + because


def test_a_saved_program_does_not_keep_the_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, (Refusing(), *WAYS))
    program = swdc.trace(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)).double().eval(), image(2, 5))
    assert program.facts.attempts == (("refuse", "it does not like the model"),)
    assert swdc.slim(program, swdc.plan(program, 0.5)).facts.attempts == program.facts.attempts
    assert swdc.load(swdc.save(program, tmp_path / "saved")).facts.attempts == ()


def test_the_error_gives_the_reason_of_every_way_and_the_most_telling_first() -> None:
    with pytest.raises(TraceError) as raised:
        swdc.trace(model(shy), image(2, 5))
    error = raised.value
    first, *others = str(error).splitlines()
    assert first == (
        "expected a model that can be captured, got Function, which export cannot capture: RuntimeError: watched; make "
        "its control flow and shapes independent of the values of its inputs (the full report is the cause of this "
        "error)"
    )
    assert others == ["record says: RuntimeError: watched", "follow says: RuntimeError: watched"]
    assert error.attempts == tuple((way.name, "RuntimeError: watched") for way in WAYS)
    assert isinstance(error.__cause__, RuntimeError)
    assert pickle.loads(pickle.dumps(error)).attempts == error.attempts


def test_a_way_that_knows_that_no_other_works_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, (Refusing(), Hopeless(), Record()))
    with pytest.raises(TraceError, match=r"^expected a model that some way can capture, .*; change it$") as raised:
        swdc.trace(model(), image(2, 5))
    assert [name for name, _ in raised.value.attempts] == ["refuse", "hopeless"]


def test_other_errors_of_tracing_have_no_attempts() -> None:
    with pytest.raises(TraceError) as raised:
        swdc.trace(model(), ())
    assert raised.value.attempts == ()


def test_the_logger_hears_why_a_way_failed_and_which_one_worked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LIST, (Refusing(), *WAYS))
    with caplog.at_level(logging.DEBUG, logger="swdc"):
        swdc.trace(model(), image(2, 5))
    heard = [(r.levelname, r.getMessage().rpartition(" (")[0]) for r in caplog.records if r.name == "swdc"]
    assert heard == [
        ("INFO", "refuse: cannot capture, because it does not like the model"),
        ("DEBUG", "follow: captured"),
    ]


def test_nobody_configures_the_logger() -> None:
    logger = logging.getLogger("swdc")
    assert logger.level == logging.NOTSET
    assert not [h for h in logger.handlers if not isinstance(h, logging.NullHandler)]


def test_a_fourth_way_is_one_more_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIST, (Refusing(), Fourth(), *WAYS))
    original = model()
    with pytest.warns(UserWarning, match="^captured by the fourth way$"):
        program = swdc.trace(original, image(2, 5))
    assert program.facts.captured_by == "fourth"
    assert program.facts.attempts == (("refuse", "it does not like the model"),)
    assert not hasattr(original, "kept")
    assert_same(original(image(2, 5)), program(image(2, 5)))


def test_any_way_may_be_valid_for_the_example_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(LIST, (Fourth(), *WAYS))
    monkeypatch.setattr(Fourth, "example_only", True)
    with pytest.warns(UserWarning, match="^captured by the fourth way$"):
        program = swdc.trace(model(), image(2, 5))
    assert program.facts.example_only
    with pytest.raises(ExportError, match=r"recorded on its example inputs"):
        swdc.export_onnx(program, tmp_path / "fourth.onnx")


def test_recording_at_once_tries_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Export, "capture", Hopeless.capture)
    facts = trace_recorded(model(branching), image(2, 5)).facts
    assert facts.captured_by == "record"
    assert facts.attempts == ()
    with pytest.raises(TraceError, match="which record cannot capture: RuntimeError: watched"):
        trace_recorded(model(shy), image(2, 5))


def test_a_way_of_the_users_is_tried_first_and_a_later_one_of_its_name_replaces_it(monkeypatch: Any) -> None:
    ways = list(WAYS)
    monkeypatch.setattr("swdc.capture.ways.WAYS", ways)
    monkeypatch.setattr(LIST, ways)
    model = nn.Linear(3, 2)
    assert swdc.register_way(Fourth) is Fourth
    assert swdc.register_way(Refusing) is Refusing
    with pytest.warns(UserWarning, match="fourth way"):
        program = swdc.trace(model, torch.randn(2, 3))
    assert program.facts.captured_by == "fourth"
    assert program.facts.attempts == (("refuse", "it does not like the model"),)
    again = type("Again", (Refusing,), {"name": "fourth"})
    swdc.register_way(again)
    assert [way.name for way in ways] == ["fourth", "refuse", "follow", "export", "record"]
    assert swdc.trace(model, torch.randn(2, 3)).facts.captured_by == "follow"


def test_a_way_without_a_name_or_with_arguments_is_refused() -> None:
    with pytest.raises(TraceError, match=r"expected Nameless\.name as text"):
        swdc.register_way(type("Nameless", (Fourth,), {"name": 3}))
    asking = type("Asking", (Fourth,), {"__init__": lambda self, size: None})
    with pytest.raises(TraceError, match="expected a way that is made without arguments, got Asking"):
        swdc.register_way(asking)
    with pytest.raises(TraceError, match="expected cls as a subclass of Way"):
        swdc.register_way(nn.Linear)  # type: ignore[type-var]
