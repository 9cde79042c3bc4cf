"""Probing: a model that branches on how much it finds is recorded at once, one that does not is exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import swdc
from swdc.capture.data_dependent_branches import branches_on_findings
from swdc.capture.restore import restored
from swdc.capture.way import Subject
from tests.capture.test_by_recording import Detector, pictures
from tests.support import certified, image, randomise


class Mixture(nn.Module):
    """Two experts, each of which sees the rows that are routed to it, as many as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.route = nn.Linear(6, 2)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best, result = self.route(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(best == number)[0]
            result = result.index_add(0, rows, expert(x[rows]))
        logits: torch.Tensor = self.head(x + result)
        return logits


class Fails(nn.Module):
    """Takes the maximum of what it finds, which has none where it finds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x[x > 0].max()


def probed(model: nn.Module, *args: object) -> bool:
    with restored(model) as put_back:
        return branches_on_findings(Subject(model.eval(), (args, {}), put_back))


def test_what_branches_is_told_from_what_does_not() -> None:
    detector = randomise(Detector())
    assert probed(detector, pictures())
    assert detector.get_buffer("calls") == 0
    assert not probed(Mixture(), torch.randn(5, 6))
    assert not probed(nn.Linear(6, 3), torch.randn(5, 6))
    assert not probed(Fails(), torch.ones(5, 6))  # it is unknown, then


@pytest.mark.filterwarnings("ignore:recorded on the example inputs", "ignore:the model overwrites calls")
def test_a_detector_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("exported")

    monkeypatch.setattr(torch.export, "export", fails)
    assert swdc.trace(randomise(Detector()), (pictures(),)).facts.captured_by == "record"


def test_experts_that_see_some_rows_are_exported_and_slim() -> None:
    program = swdc.trace(randomise(Mixture()).eval(), image(5, 6))
    assert program.facts.captured_by == "export"
    assert {group.width for group in program.groups} == {8}
    certified(program)
