"""Names of modules, tensors and arguments that Python code cannot contain, or that programs use themselves."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.errors import TraceError
from swdc.ir.name_mangling import speakable
from tests.support import Function, assert_equal, assert_same, certified, image, traced

NAMES = ("graph", "hash", "self", "held", "for", 'a"b', "a\\", "é")


class Module(nn.Module):
    """Holds a linear layer by any name, at the top or further down."""

    def __init__(self, name: str, deep: bool) -> None:
        super().__init__()
        self.box = nn.Module()
        self.owner, self.name = [self.box if deep else self], name
        self.owner[0].add_module(name, nn.Linear(4, 8))
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.out(F.relu(self.owner[0]._modules[self.name](x)))  # type: ignore[misc]


class Weight(nn.Module):
    """Holds a parameter by any name, and a buffer of its own."""

    def __init__(self, name: str, deep: bool) -> None:
        super().__init__()
        self.box = nn.Module()
        self.owner, self.name = [self.box if deep else self], name
        self.owner[0].register_parameter(name, nn.Parameter(torch.randn(8, 4)))
        self.register_buffer("shift", torch.randn(8))
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.out(F.relu(F.linear(x, self.owner[0]._parameters[self.name], self.shift)))  # type: ignore[arg-type]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", [Module, Weight])
@pytest.mark.parametrize("name", NAMES)
def test_names_stay_the_users(kind: type[nn.Module], name: str, deep: bool) -> None:
    model, x = kind(name, deep).eval(), image(5, 4)
    program = traced(model, image(2, 4))
    assert list(program.state_dict()) == list(model.state_dict())
    assert_equal(program(x), model(x))
    _, slim = certified(program)
    assert set(slim.state_dict()) == set(model.state_dict())
    copy = slim.clone()
    copy.load_state_dict(slim.state_dict())
    assert_equal(copy(x), slim(x))
    assert_same(swdc.transplant(slim, model)(x), slim(x), 1e-6)


def test_a_path_finds_the_module() -> None:
    model = Module("graph", deep=False).eval()
    program = traced(model, image(2, 4))
    assert isinstance(program.get_submodule("graph"), nn.Linear)
    assert program.get_submodule("") is program
    assert isinstance(program.graph, torch.fx.Graph)


@pytest.mark.parametrize("name", ["code", "for"])
def test_such_programs_are_saved(name: str, tmp_path: Path) -> None:
    program = traced(Module(name, deep=False).eval(), image(2, 4))
    x = image(3, 4)
    assert_equal(swdc.load(swdc.save(program, tmp_path / "saved"))(x), program(x))


def test_names_of_a_programs_own_data_are_refused() -> None:
    with pytest.raises(TraceError, match=r"expected other names .* than \['_facts'\], which programs use; rename them"):
        swdc.trace(Module("_facts", deep=False).eval(), image(2, 4).float())


def test_names_for_other_tools_stay_distinct() -> None:
    assert speakable(["a.b", "for.a", "for_a", "model_for_a"], lambda _: False) == {
        "a.b": "a.b", "for.a": "model_for_a", "for_a": "for_a", "model_for_a": "model_for_a_2",
    }  # fmt: skip


class Arguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, torch: Any, device: Any) -> Any:
        return self.two(F.relu(self.one(torch))) + device


@pytest.mark.parametrize("keywords", [False, True])
def test_arguments_have_the_names_of_the_model(keywords: bool) -> None:
    model, x, z = Arguments().eval(), image(2, 4), image(2, 3)
    program = traced(model, {"device": z, "torch": x} if keywords else (x, z))
    assert_equal(program(torch=x, device=z), model(x, z))
    assert_equal(program(x, device=z), model(x, z))


def test_an_argument_may_be_called_self() -> None:
    def forward(model: Function, self: torch.Tensor) -> Any:
        return model.layer(self)

    model = Function(lambda *_: None, layer=nn.Linear(4, 3))
    model.forward = types.MethodType(forward, model)
    x = image(2, 4)
    program = traced(model, x)
    assert_equal(program(x), model(x))
