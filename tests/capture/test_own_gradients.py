"""Functions with gradients of their own are named, because a program does not keep them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import swdc
from swdc.capture.own_gradients import functions_applied
from tests.support import Function, assert_equal, image, randomise


class Straight(torch.autograd.Function):
    """The sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


through = Straight.apply  # a name that is bound before capture


def branching(m: Any, x: torch.Tensor) -> Any:
    return m.b(through(m.a(x))) * (2 if x.sum() < 1e9 else 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("forward", [lambda m, x: m.b(Straight.apply(m.a(x))), branching])
def test_the_function_is_named(forward: Any) -> None:
    model = randomise(Function(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval()
    program = swdc.trace(model, image(2, 4))
    (note,) = (note for note in program.facts.notes if "Straight" in note)
    assert "in the forward of Straight (torch.autograd.Function)" in note
    assert "train the model itself" in note
    assert_equal(program(image(2, 4)), model(image(2, 4)))


def test_functions_of_torch_are_not_named() -> None:
    with functions_applied() as applied:
        checkpoint(nn.Linear(4, 8), torch.randn(2, 4, requires_grad=True), use_reentrant=True)
    assert not applied


def test_calls_are_as_before_afterwards() -> None:
    with functions_applied() as applied:
        through(image(2, 3))
    assert list(applied) == ["Straight"]
    x = torch.randn(2, 3, requires_grad=True)
    through(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(2, 3))
    assert "__getattribute__" not in vars(type(torch.autograd.Function))


def test_hooks_on_the_way_back_are_named() -> None:
    model = randomise(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))).eval()
    model[1].register_full_backward_pre_hook(lambda module, gradients: (gradients[0] * 2,))
    with pytest.warns(UserWarning, match="does not call the backward hooks of 1; train the model itself"):
        swdc.trace(model, image(2, 4))


def test_gradients_that_the_model_stops_are_told() -> None:
    def gated(m: Any, x: torch.Tensor) -> Any:
        y = m.a(x)
        with torch.no_grad():
            gate = y.sigmoid()
        return m.b(y * gate)

    model = randomise(Function(gated, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval()
    with pytest.warns(UserWarning, match="the model computes without gradients what the program computes with"):
        swdc.trace(model, image(2, 4))
    model.function = lambda m, x: m.b(m.a(x) * m.a(x).detach().sigmoid())
    assert not swdc.trace(model, image(2, 4)).facts.notes


def test_hooks_on_results_of_operators_are_named() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        y = m.a(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient * 3)
        return y

    register = torch.Tensor.register_hook
    with pytest.warns(UserWarning, match=r"does not call the hooks on tensors of .*test_own_gradients\.py:\d+; train"):
        swdc.trace(randomise(Function(forward, a=nn.Linear(4, 8))).eval(), image(2, 4))
    assert torch.Tensor.register_hook is register
