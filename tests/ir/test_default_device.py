"""Callers may set another default device than the CPU, such as their accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from tests.support import conv, image, randomise


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Set the default device to one on which no value can be read."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def test_the_way_from_a_model_to_a_folder(elsewhere: None, tmp_path: Path) -> None:
    with torch.device("cpu"):
        model = randomise(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Conv2d(6, 4, 1))).eval()
        x = image(2, 3, 6, 6)
    program = swdc.trace(model, x)
    plan = swdc.plan(program, 0.5)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    loaded = swdc.load(swdc.save(slim, tmp_path / "slim", certificate=certificate))
    assert torch.equal(loaded(x), slim(x))
    assert swdc.deploy(slim)(x).device.type == "cpu"


def test_the_pull_towards_zero(elsewhere: None) -> None:
    with torch.device("cpu"):
        model, x = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)), torch.randn(4, 5)
    program = swdc.trace(model, x)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.1)
    swd = swdc.SWD(program, target=0.5, a="auto", steps=2, optimizer=optimizer)
    for _ in range(2):
        program(x).sum().backward()
        swd.step()
        optimizer.step()
    assert all(tensor.device.type == "cpu" for tensor in program.parameters())
