"""Batch norms after residual sums: exact identities, in the right places, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from passes.insert_batchnorm import InsertBatchnorm
from swdc.errors import PassError
from swdc.ir.differences import relative_error
from swdc.ir.program import Program
from swdc.networks import resnet20
from swdc.rewriting.pipeline import apply, run
from tests.support import Function, assert_same, certified, conv, image, operators, text, traced


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = conv(6, 6), nn.BatchNorm2d(6), conv(6, 6), nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def residual() -> nn.Module:
    return nn.Sequential(conv(3, 6), Block(), Block(), conv(6, 2))


def function_of(forward: Callable[..., Any]) -> nn.Module:
    return Function(forward, a=conv(3, 6), b=conv(6, 6), n=nn.BatchNorm2d(6), d=conv(6, 2))


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(nn.Sequential(conv(3, 6), Block(), conv(6, 2)))
    golden("insert_batchnorm.before", text(program))
    golden("insert_batchnorm.after", text(swdc.insert_batchnorm(program)))


def test_an_exact_identity_in_evaluation() -> None:
    program = traced(residual())
    result = run(program, [InsertBatchnorm()])
    assert result.modified
    assert result.program is not program
    assert_same(program(image(3, 3, 8, 8)), result.program(image(3, 3, 8, 8)), 1e-12)
    assert set(result.program.state_dict()) - set(program.state_dict()) == {
        f"{block}.sum_batchnorm.{name}"
        for block in (1, 2)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_the_norm_stands_between_the_sum_and_its_activation() -> None:
    result = swdc.insert_batchnorm(traced(residual()))
    names = operators(result)
    for position, name in enumerate(names):
        if name == "aten.add.Tensor":
            assert names[position + 1 : position + 3] == ["BatchNorm2d", "aten.relu.default"]
    assert names.count("aten.add.Tensor") == 2


def test_it_trains_the_parameters_of_the_given_program() -> None:
    program = traced(residual())
    result = swdc.insert_batchnorm(program)
    mine, theirs = dict(result.named_parameters()), dict(program.named_parameters())
    assert all(mine[name] is parameter for name, parameter in theirs.items())
    norm = result.get_submodule("1.sum_batchnorm")
    before = norm.running_mean.clone()
    result.train()(image(3, 3, 8, 8)).sum().backward()
    assert norm.weight.grad is not None
    assert not torch.equal(norm.running_mean, before)


def test_the_result_is_masked_and_slimmed_like_any_other() -> None:
    result = swdc.insert_batchnorm(traced(residual()))
    certified(result)
    assert {m.tensor for g in result.groups for m in g.members} >= {"1.sum_batchnorm.weight", "2.sum_batchnorm.bias"}


def test_a_resnet_of_the_paper() -> None:
    program = traced(resnet20(width=4, inserted_batchnorm=False))
    result = swdc.insert_batchnorm(program)
    assert operators(result).count("BatchNorm2d") - operators(program).count("BatchNorm2d") == 9
    certified(result)


def test_idempotent() -> None:
    once = swdc.insert_batchnorm(traced(residual()))
    again = run(once, [InsertBatchnorm()])
    assert again.program is once
    assert not again.modified


CLOSED: dict[str, Callable[..., Any]] = {
    "no sum": lambda m, x: m.d(torch.relu(m.a(x))),
    "a norm follows": lambda m, x: m.d(torch.relu(m.n(m.a(x) + m.b(m.a(x))))),
    "a literal": lambda m, x: m.d(torch.relu(m.a(x) + 1)),
    "one channel": lambda m, x: m.d(torch.relu(m.a(x) + x[:, :1])),
    "pooled": lambda m, x: m.d(m.a(x) + m.a(x).mean((2, 3), keepdim=True)),
    "a parameter": lambda m, x: m.d(torch.relu(m.a(x) + m.b.bias[:, None, None])),
    "a difference": lambda m, x: m.d(torch.relu(m.a(x) - m.b(m.a(x)))),
    "a map and itself": lambda m, x: m.d((lambda y: y + y)(m.a(x))),
}


@pytest.mark.parametrize("name", CLOSED)
def test_the_given_program_comes_back_where_there_is_no_such_sum(name: str) -> None:
    program = traced(function_of(CLOSED[name]))
    result = run(program, [InsertBatchnorm()])
    assert result.program is program
    assert not result.modified


OPEN: dict[str, tuple[int, Callable[..., Any]]] = {
    "a chain of sums": (1, lambda m, x: m.d(torch.relu(m.a(x) + m.b(m.a(x)) + m.b(m.b(m.a(x)))))),
    "in place": (1, lambda m, x: m.d(m.a(x).add_(m.b(m.a(x))).relu_())),
    "the output": (1, lambda m, x: m.a(x) + m.b(m.a(x))),
    "one norm and one other reader": (1, lambda m, x: (lambda y: m.d(m.n(y)) + m.d(y))(m.a(x) + m.b(m.a(x)))),
    "a sum of two sums": (1, lambda m, x: (m.a(x) + m.b(m.a(x))) + (m.b(m.a(x)) + m.a(x))),
    "without activation": (1, lambda m, x: m.d(m.a(x) + m.b(m.a(x)))),
}


@pytest.mark.parametrize("name", OPEN)
def test_where_norms_are_inserted(name: str) -> None:
    number, forward = OPEN[name]
    program = traced(function_of(forward))
    result = swdc.insert_batchnorm(program)
    outputs = 1 if name == "one norm and one other reader" else 0  # there the result is a sum of maps, too
    assert operators(result).count("BatchNorm2d") - operators(program).count("BatchNorm2d") == number + outputs
    assert_same(program(image()), result(image()), 1e-12)
    assert swdc.insert_batchnorm(result) is result


def test_a_chain_counts_once_at_its_end() -> None:
    result = swdc.insert_batchnorm(traced(function_of(OPEN["a chain of sums"][1])))
    names = operators(result)
    assert names.index("BatchNorm2d") > len(names) - 1 - names[::-1].index("aten.add.Tensor")


def test_features_and_volumes() -> None:
    flat = traced(Function(lambda m, x: m.b(torch.relu(m.a(x) + x)), a=nn.Linear(5, 5), b=nn.Linear(5, 2)), image(2, 5))
    assert "BatchNorm1d" in operators(swdc.insert_batchnorm(flat))
    volume = traced(Function(lambda m, x: m.a(x) + x, a=nn.Conv3d(3, 3, 1)), image(1, 3, 2, 2, 2))
    assert "BatchNorm3d" in operators(swdc.insert_batchnorm(volume))


def test_sums_of_whole_numbers_are_left_alone() -> None:
    model = Function(lambda m, i, j: m.e(i + j).sum(1), e=nn.Embedding(10, 4))
    program = traced(model, (torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)))
    assert swdc.insert_batchnorm(program) is program


def test_options_and_name() -> None:
    program = traced(residual())
    result = apply(program, "insert-batchnorm", eps=1e-2, momentum=0.5)
    norm = result.get_submodule("1.sum_batchnorm")
    assert (norm.eps, norm.momentum) == (1e-2, 0.5)
    assert_same(program(image()), result(image()), 1e-12)
    with pytest.raises(PassError, match=r"expected a batch norm after every sum, \['add_tensor', 'add_tensor_1'\]"):
        InsertBatchnorm().ensures(program)


def test_the_precision_of_the_model_is_that_of_the_norm() -> None:
    program = swdc.trace(residual().float(), image().float())
    result: Program = swdc.insert_batchnorm(program)
    assert result.get_parameter("1.sum_batchnorm.weight").dtype == torch.float32
    assert result(image().float()).dtype == torch.float32


@pytest.mark.parametrize(("outside", "inside"), [(torch.float64, torch.float32), (torch.float32, torch.bfloat16)])
def test_a_norm_has_the_type_of_its_sum(outside: torch.dtype, inside: torch.dtype) -> None:
    def forward(own: Any, x: torch.Tensor) -> torch.Tensor:
        y = own.a(x).to(inside)
        return own.d((y + own.b(y.relu())).to(outside))

    model = function_of(forward).to(outside)
    model.b.to(inside)
    x = image(2, 3, 8, 8).to(outside)
    program = swdc.trace(model.eval(), x)
    result = swdc.insert_batchnorm(program)
    (norm,) = [m for m in result.leaves.values() if isinstance(m, nn.BatchNorm2d)]
    assert norm.weight.dtype == inside
    assert relative_error(program(x), result(x)) <= torch.finfo(inside).eps ** 0.5


def test_a_norm_has_the_type_of_weights_that_were_cast() -> None:
    program = traced(residual()).clone(torch.float32)
    result = swdc.insert_batchnorm(program)
    x = image(2, 3, 8, 8).float()
    assert relative_error(program(x), result(x)) <= 1e-6
