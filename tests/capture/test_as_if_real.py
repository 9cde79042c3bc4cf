"""What a model's code sees of devices while it is captured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import TraceError
from tests.support import Function, assert_same, image, randomise

BRANCHES = {
    "type": lambda x: x.device.type == "cpu",
    "device": lambda x: x.device == torch.zeros(1).device,
    "is_cpu": lambda x: x.is_cpu,
    "is_cuda": lambda x: not x.is_cuda,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_code_that_asks_for_the_device_gets_that_of_the_example(name: str) -> None:
    model = randomise(
        Function(lambda m, x: m.b(m.a(x) * (2 if BRANCHES[name](m.a(x)) else 1)), a=nn.Linear(5, 4), b=nn.Linear(4, 3))
    ).eval()
    program = swdc.trace(model, image(2, 5))
    assert program.facts.captured_by == "follow"
    assert not program.facts.attempts
    assert_same(model(x := image(7, 5, seed=3)), program(x))


def test_numbers_made_on_the_device_of_an_input_are_known() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(4, device=m.a(x).device)
        return m.b(m.a(x) * (places + 1) * int(places.sum()))

    model = randomise(Function(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3))).eval()
    program = swdc.trace(model, image(2, 5))
    assert program.facts.captured_by == "follow"
    assert_same(model(x := image(7, 5, seed=3)), program(x))


def test_after_capture_devices_are_torchs_own() -> None:
    with pytest.raises(TraceError):
        swdc.trace(Function(lambda m, x: m.a(x[0]) + x, a=nn.Linear(5, 4)), image(2, 5))
    assert "device" not in vars(torch.Tensor)
    assert torch.empty(1, device="meta").device.type == "meta"


def test_on_the_meta_device_code_sees_the_meta_device() -> None:
    with torch.device("meta"):
        model = Function(
            lambda m, x: m.b(m.a(x) * (2 if x.device.type == "meta" else 1)), a=nn.Linear(5, 4), b=nn.Linear(4, 3)
        ).eval()
    program = swdc.trace(model, torch.empty(2, 5, device="meta"))
    assert any(2 in node.args for node in program.graph.nodes)


INDICES = {
    "a list": lambda x: x[:, [2, 0, 1]],
    "lists": lambda x: x[[[0], [1]], [[1, 2]]],
    "an array": lambda x: x[:, np.array([3, 1])],
    "a list of one": lambda x: x[..., [-1], :],
}


@pytest.mark.parametrize("name", INDICES)
def test_lists_as_indices_keep_their_numbers(name: str) -> None:
    model = randomise(Function(lambda m, x: m.b(INDICES[name](m.a(x))), a=nn.Conv2d(4, 6, 1), b=nn.Linear(5, 3))).eval()
    program = swdc.trace(model, image(3, 4, 5, 5))
    assert program.facts.captured_by == "follow"
    assert "length" in program.facts.symbols
    assert_same(model(x := image(2, 4, 7, 5, seed=3)), program(x))


def test_lists_as_places_to_write_keep_their_numbers() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = m.a(x)
        x[:, [0, 2]] = 1.5
        return m.b(x)

    model = randomise(Function(forward, a=nn.Conv2d(3, 4, 1), b=nn.Linear(5, 3))).eval()
    program = swdc.trace(model, image(2, 3, 5, 5))
    assert program.facts.captured_by == "follow"
    assert_same(model(x := image(2, 3, 7, 5, seed=3)), program(x))


def test_a_trace_leaves_tensors_what_they_are() -> None:
    swdc.trace(randomise(Function(lambda m, x: m.a(x)[:, [1, 0]], a=nn.Linear(5, 4))).eval(), image(2, 5))
    assert not {"device", "is_cpu", "is_cuda", "__getitem__", "__setitem__"} & {*vars(torch.Tensor)}
    x = torch.ones(2)
    assert torch.equal(torch.tensor([x[0], x[1]]), x)  # torch looks whether what a list holds is a sequence
