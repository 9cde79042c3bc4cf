"""Capture by ``torch.export``: what is dynamic, and that it gives the program that following gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import swdc
from swdc.capture.by_export import Export
from tests.support import Function, assert_equal, conv, image, randomise


def test_inputs_without_a_shared_batch() -> None:
    model = randomise(Function(lambda m, x, e: m.a(x)[e[0]] + m.a(x)[e[1]], a=nn.Linear(6, 4))).eval()
    program = swdc.trace(model, (image(5, 6), torch.tensor([[0, 1, 2], [2, 3, 4]])))
    given = (image(7, 6), torch.tensor([[0, 1, 6, 5], [2, 3, 4, 6]]))
    assert program.facts.batch is None
    assert_equal(model(*given), program(*given))


def test_export_gives_the_program_that_following_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 3))
    model = randomise(nn.Sequential(*layers)).eval()
    followed = swdc.trace(model, image(2, 3, 8, 8))
    monkeypatch.setattr("swdc.capture.trace.WAYS", (Export(),))
    exported = swdc.trace(model, image(2, 3, 8, 8))
    assert (followed.facts.captured_by, exported.facts.captured_by) == ("follow", "export")
    assert str(replace(exported.explanation, sizes=())) == str(replace(followed.explanation, sizes=()))
    assert exported.groups[0].width == 8
    for batch in (1, 2, 5):
        assert_equal(exported(image(batch, 3, 8, 8)), followed(image(batch, 3, 8, 8)))
