"""Identities: found where provably nothing changes, and left where memory, shape or type matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from passes.eliminate_identities import EliminateIdentities
from swdc.ir.program import Program
from swdc.rewriting.pass_base import PassResult
from swdc.rewriting.pipeline import apply, run
from tests.support import Function, assert_equal, conv, image, operators, text, traced

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* keeps its evaluation mode in training:UserWarning"),
    pytest.mark.filterwarnings("ignore:what the model computes in training differs:UserWarning"),
]


def network(forward: Callable[..., Any]) -> nn.Module:
    """Return a model that computes something of an image before and after ``forward``."""
    tensors = {
        "zeros": torch.zeros(3, 8, 8), "one": nn.Parameter(torch.ones(1)), "mean": torch.zeros(3),
        "variance": torch.ones(3), "scale": torch.rand(1),
    }  # fmt: skip
    return Function(lambda m, x: torch.tanh(forward(m, torch.sigmoid(x))) * m.scale, **tensors)


def eliminated(program: Program) -> PassResult:
    """Eliminate, and assert the very same numbers, an untouched program, and that nothing is left to eliminate."""
    described = text(program)
    result = run(program, [EliminateIdentities()])
    for batch in (1, 2, 5):
        x = image(batch, *program.facts.example[0][0].shape[1:], seed=batch)
        assert_equal(program(x), result.program(x))
    assert text(program) == described
    assert not run(result.program, [EliminateIdentities()]).modified
    return result


def test_golden(golden: Callable[[str, str], None]) -> None:
    model = nn.Sequential(
        nn.Dropout(), nn.Flatten(), nn.Linear(192, 8), nn.Unflatten(1, (8,)), nn.ReLU(), nn.ReLU(), nn.Linear(8, 2)
    )
    program = traced(model)
    golden("eliminate_identities.before", text(program))
    golden("eliminate_identities.after", text(eliminated(program).program))


IDENTITIES: dict[str, Callable[..., Any]] = {
    "dropout": lambda m, x: F.dropout2d(F.dropout(x, 0.2, m.training), 0.2, m.training),
    "alpha dropout": lambda m, x: F.feature_alpha_dropout(F.alpha_dropout(x, 0.2, m.training), 0.2, m.training),
    "dropout of nothing": lambda m, x: F.dropout(x, 0.0, True),
    "zero": lambda m, x: 0 + x + 0.0 - 0,
    "one": lambda m, x: 1 * x * 1.0 / 1,
    "tensors of zeros and ones": lambda m, x: (m.zeros + x) * m.one + m.zeros,
    "reshape": lambda m, x: x.reshape(-1, 3, 8, 8).view(x.shape),
    "flatten": lambda m, x: x.flatten(1, 1).squeeze(1).unflatten(1, (3,)),
    "permute": lambda m, x: x.permute(0, 1, 2, -1).transpose(1, -3).movedim((1, 2), (1, 2)),
    "expand": lambda m, x: x.expand(-1, 3, 8, 8).expand_as(x),
    "repeat": lambda m, x: x.repeat(1, 1, 1, 1),
    "slice": lambda m, x: x[:, :3, 0:, :8][:, :, :100].narrow(1, 0, 3),
    "split": lambda m, x: x.split(3, 1)[0].chunk(1, 2)[0],
    "concatenation": lambda m, x: torch.cat([x], 1),
    "copies": lambda m, x: x.clone().contiguous().detach(),
    "casts": lambda m, x: x.to(torch.float64).double().to("cpu").type_as(x),
    "padding": lambda m, x: F.pad(F.pad(x, (0, 0, 0, 0)), (0, 0, 0, 0), mode="reflect"),
    "average pool": lambda m, x: F.avg_pool2d(F.adaptive_avg_pool2d(x, (8, 8)), 1),
    "maximum pool": lambda m, x: F.max_pool2d(F.adaptive_max_pool2d(x, (None, 8)), 1, 1),
    "batch norm": lambda m, x: F.batch_norm(x, m.mean, m.variance, None, None, False, 0.1, 0.0),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(name: str) -> None:
    program = swdc.trace(network(IDENTITIES[name]).double().eval(), image(), dynamic=["batch"])
    assert len(operators(program)) > 3
    result = eliminated(program)
    assert result.modified
    left = apply(result.program, "eliminate-unused")  # what was split, and a pool of which one result was read
    assert operators(left) == ["aten.sigmoid.default", "aten.tanh.default", "aten.mul.Tensor"]


@pytest.mark.parametrize(
    "function", [F.relu, F.relu6, torch.abs, torch.floor, torch.sign, lambda x: x.clamp(-0.5, 0.5), F.hardtanh]
)
def test_what_is_applied_twice(function: Callable[..., torch.Tensor]) -> None:
    layers = {"a": conv(3, 4), "drop": nn.Dropout(), "b": conv(4, 2)}
    program = traced(Function(lambda m, x: m.b(function(m.drop(function(m.a(x))))), **layers))
    assert len(operators(program)) == 5
    assert len(operators(eliminated(program).program)) == 3


@pytest.mark.parametrize("function", [torch.sigmoid, torch.exp, F.relu6, lambda x: x.softmax(1)])
def test_a_relu_of_what_cannot_be_negative(function: Callable[..., torch.Tensor]) -> None:
    program = traced(Function(lambda m, x: m.b(F.relu(function(m.a(x)))), a=conv(3, 4), b=conv(4, 2)))
    assert len(operators(eliminated(program).program)) == 3


OTHERS: dict[str, Callable[..., Any]] = {
    "another number": lambda m, x: (x + 1) * 0.5 - 1,
    "zero of a broadcast": lambda m, x: x[:, :1] + m.zeros,
    "another order": lambda m, x: x.reshape(-1, 8, 3, 8).permute(0, 2, 1, 3),
    "a square turned": lambda m, x: x.transpose(2, 3),
    "another shape": lambda m, x: x.flatten(1).unsqueeze(1),
    "every other": lambda m, x: x[:, :, ::2],
    "parts": lambda m, x: x.split([1, 2], 1)[1],
    "a cast and back": lambda m, x: x.to(torch.float32).to(torch.float64),
    "padding that crops": lambda m, x: F.pad(x, (1, -1, 0, 0)),
    "a pool that smooths": lambda m, x: F.avg_pool2d(x, 3, 1, 1),
    "clamps of other bounds": lambda m, x: x.clamp(0.1, 0.9).clamp(0.2, 0.9),
    "a batch norm": lambda m, x: F.batch_norm(x, m.mean, m.variance, None, None, False, 0.1, 1e-3),
    "a product with zero": lambda m, x: x * 0,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_changes_something_stays(name: str) -> None:
    program = swdc.trace(network(OTHERS[name]).double().eval(), image(), dynamic=["batch"])
    result = run(program, [EliminateIdentities()])
    assert not result.modified
    assert result.program is program


def test_casts_of_a_program_that_has_another_type_by_now_stay() -> None:
    model = Function(lambda m, x: m.b(m.a(x).to(torch.float32)), a=nn.Linear(3, 3), b=nn.Linear(3, 2))
    program = swdc.trace(model.eval(), image(2, 3).float())
    assert "aten.to.dtype" in operators(program)
    assert run(program, [EliminateIdentities()]).modified
    assert not run(program.double(), [EliminateIdentities()]).modified


def test_the_caller_is_handed_no_memory_of_the_program_or_of_his_own() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        y = m.a(x)
        return x.clone(), x.clone().view(-1, 192), y.clone(), y.clone().sigmoid(), (m.a(x) + 0)

    program = traced(Function(forward, a=conv(3, 3)))
    result = eliminated(program)
    assert result.modified
    assert operators(result.program).count("aten.clone.default") == 3
    assert "aten.add.Tensor" not in operators(result.program)
    x = image(2, 3, 8, 8)
    handed = result.program(x)
    pointers = [t.untyped_storage().data_ptr() for t in (x, *result.program.tensors.values(), *handed)]
    assert len(set(pointers)) == len(pointers)


def test_copies_stay_where_something_is_overwritten() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.dropout(m.a(x), 0.5, m.training)
        kept = y.clone()
        y[:, 0].mul_(2)
        return m.b(kept * y)

    program = traced(Function(forward, a=conv(3, 3), b=conv(3, 2)))
    result = run(program, [EliminateIdentities()])
    assert_equal(program(image(2, 3, 8, 8)), result.program(image(2, 3, 8, 8)))
    assert "aten.mul_.Tensor" in operators(result.program)
    assert "aten.clone.default" in operators(result.program)
    assert "Dropout" not in operators(result.program)


def test_copies_stay_where_an_operator_depends_on_how_a_value_lies_in_memory() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.view_as_complex(m.a(x).transpose(1, 2).contiguous()).abs())

    program = traced(Function(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 2)), image(2, 2, 4))
    assert not run(program, [EliminateIdentities()]).modified


def test_dropout_goes_from_a_program_in_training_too() -> None:
    program = traced(nn.Sequential(conv(3, 3), nn.Dropout(), conv(3, 2))).train()
    result = apply(program, "eliminate-identities")
    assert operators(result) == ["Conv2d", "Conv2d"]
    assert result.training
    assert not result.eval().get_submodule("0").training
    assert program.get_submodule("0").training
    assert result.get_parameter("0.weight") is program.get_parameter("0.weight")


def test_on_the_meta_device() -> None:
    program = traced(Function(lambda m, x: m.a(x) * m.ones, a=conv(3, 3), ones=torch.ones(1))).to("meta")
    assert not run(program, [EliminateIdentities()]).modified
