"""A model is put back as it was, whatever its code keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.capture.restore import restored
from tests.support import conv, image, randomise


class Helper:
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"first": torch.ones(1)}


class Keeps(nn.Module):
    """Caches tensors in attributes, lists, buffers and a plain object; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.helper, self.calls = conv(3, 4), Helper(), 0
        self.cells = [torch.rand(4)]
        self.register_buffer("table", torch.rand(4, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.cells = [cell.to(x.device, x.dtype) for cell in self.cells]
        self.helper.seen["last"] = x.mean()
        self.table = self.table.to(x)
        self.latest = x
        return self.conv(x) * self.table + self.cells[0][:, None, None]


def state(model: Keeps) -> Any:
    parts = (model.__dict__, model._buffers, model._parameters, model.helper.__dict__, model.helper.seen)
    return [{name: id(value) for name, value in part.items()} for part in parts], [id(c) for c in model.cells]


@pytest.mark.filterwarnings("ignore")
def test_tracing_leaves_no_trace() -> None:
    model = randomise(Keeps()).train()
    before, result = state(model), model.eval()(image())
    model.train()
    before = state(model)
    program = swdc.trace(model, image())
    assert state(model) == before
    assert torch.equal(model.eval()(image()), result)
    assert torch.equal(program.eval()(image()), result)


def test_what_fails_is_put_back_too() -> None:
    model = Keeps()
    before = state(model)

    def fail() -> None:
        with restored(model):
            model.train(not model.training)
            model(image(1, 5, 8, 8))

    with pytest.raises(RuntimeError):
        fail()
    assert state(model) == before
