"""Which sums are residual, and which batch norms decide over them: one answer for all that ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.analysis.residual import deciding_norms, free_operands, is_batchnorm, residual_sums, sums
from swdc.ir.program import Program
from tests.support import Function, conv, traced

Forward = Callable[..., Any]


def program_of(forward: Forward, **norms: nn.Module) -> Program:
    """Return the program of a model with convolutions ``a`` (3 to 6) and ``b`` (6 to 6), and a head ``d``."""
    return traced(Function(forward, a=conv(3, 6), b=conv(6, 6), d=conv(6, 2), **norms))


SUMS: dict[str, tuple[int, int, Forward]] = {
    "two maps": (1, 1, lambda m, x: (lambda y: m.d(y + m.b(y)))(m.a(x))),
    "a chain": (2, 2, lambda m, x: (lambda y: m.d(y + m.b(y) + m.b(m.b(y))))(m.a(x))),
    "a map and itself": (1, 0, lambda m, x: (lambda y: m.d(y + y))(m.a(x))),
    "a map and a number": (1, 0, lambda m, x: m.d(m.a(x) + 1)),
    "a map and a parameter": (1, 0, lambda m, x: m.d(m.a(x) + m.b.bias[:, None, None])),
    "a map and its mean": (1, 0, lambda m, x: (lambda y: m.d(y + y.mean((2, 3), keepdim=True)))(m.a(x))),
    "a difference": (0, 0, lambda m, x: (lambda y: m.d(y - m.b(y)))(m.a(x))),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_residual_sum_adds_two_maps_of_one_shape(name: str) -> None:
    every, residual, forward = SUMS[name]
    program = program_of(forward)
    assert len(sums(program)) == every
    assert len(residual_sums(program)) == residual
    assert set(residual_sums(program)) <= set(sums(program))


def test_a_norm_decides_over_the_sum_that_it_reads() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.first(m.a(x)))
        result: torch.Tensor = m.d(torch.relu(m.last(m.inner(m.b(y)) + y)))
        return result

    norms = {name: nn.BatchNorm2d(6) for name in ("first", "inner", "last")}
    program = program_of(forward, **norms).under("free")
    assert deciding_norms(program) == ["first", "last"]
    (total,) = residual_sums(program)
    (reader,) = total.users
    assert is_batchnorm(reader, program)
    assert [operand.name for operand in free_operands(program)[total]] == ["relu_default"]


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_without_gains_frees_the_shortcut_but_overrules_no_gains(affine: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        result: torch.Tensor = m.d(torch.relu(m.last(m.inner(m.b(torch.relu(y))) + y)))
        return result

    last = nn.BatchNorm2d(6, affine=affine)
    program = program_of(forward, inner=nn.BatchNorm2d(6), last=last).under("free")
    assert deciding_norms(program) == (["last"] if affine else ["inner"])
    assert len(free_operands(program)) == 1


def test_a_norm_that_counts_over_processes_decides_like_any_other() -> None:
    program = program_of(lambda m, x: m.d(m.n(m.a(x) + m.b(m.a(x)))), n=nn.BatchNorm2d(6))
    spread = nn.SyncBatchNorm.convert_sync_batchnorm(program)
    assert isinstance(spread.get_submodule("n"), nn.SyncBatchNorm)
    assert deciding_norms(spread) == ["n"]
    assert swdc.insert_batchnorm(spread) is spread


def test_sums_of_equal_sides_stay_one_group_under_the_free_policy() -> None:
    program = program_of(lambda m, x: m.d(m.n((lambda y: y + y)(m.a(x)))), n=nn.BatchNorm2d(6))
    assert not free_operands(program.under("free"))
    assert swdc.insert_batchnorm(program) is program
