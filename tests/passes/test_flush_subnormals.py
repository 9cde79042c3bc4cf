"""Flushing: subnormal weights become zero, by their bits, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import swdc
from passes.flush_subnormals import FlushSubnormals
from swdc.errors import PassError
from swdc.ir.program import Program
from swdc.rewriting.pipeline import apply, run
from tests.support import Function, assert_equal, image, text, traced

X = image(2, 3).float()


def decayed(dtype: torch.dtype = torch.float32) -> Program:
    """Return a program with subnormal numbers of both signs in a weight and in a buffer."""
    model = Function(lambda m, x: m.a(x) + m.shift, a=nn.Linear(3, 4), shift=torch.randn(4)).to(dtype)
    tiny = torch.finfo(dtype).smallest_normal
    with torch.no_grad():
        model.a.weight[0] = torch.tensor([tiny / 2, -tiny / 4, tiny], dtype=dtype)
        model.a.weight[1] = torch.tensor([0.0, -0.0, -tiny], dtype=dtype)
        model.shift[2] = -tiny / 2
    return swdc.trace(model.eval(), X.to(dtype))


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = decayed()
    golden("flush_subnormals.before", f"{text(program)}\na.weight = {program.get_parameter('a.weight')[:2].tolist()}\n")
    flushed = run(program, [FlushSubnormals()]).program
    golden("flush_subnormals.after", f"{text(flushed)}\na.weight = {flushed.get_parameter('a.weight')[:2].tolist()}\n")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_below_the_smallest_normal_number_becomes_zero(dtype: torch.dtype) -> None:
    program = decayed(dtype)
    before = program.clone()
    result = run(program, [FlushSubnormals()])
    assert result.modified
    tiny = torch.finfo(dtype).smallest_normal
    for name, tensor in result.program.tensors.items():
        old = before.tensors[name]
        assert torch.equal(tensor, torch.where(old.abs() < tiny, torch.zeros_like(old), old))
        assert type(tensor) is type(old)
    assert result.program.tensors["a.weight"][0].tolist() == [0, 0, tiny]
    assert result.program.tensors["a.bias"] is program.tensors["a.bias"]
    assert result.program.get_submodule("a").weight is result.program.tensors["a.weight"]
    assert_equal(list(before.tensors.values()), list(program.tensors.values()))
    assert_equal(before(X.to(dtype)), result.program(X.to(dtype)))
    assert not run(result.program, [FlushSubnormals()]).modified


def test_with_flushing_switched_on_in_torch_too() -> None:
    program = decayed()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        result = run(program, [FlushSubnormals()])
    finally:
        torch.set_flush_denormal(False)
    assert result.modified
    assert int((result.program.tensors["a.weight"] == 0).sum()) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_given_program_comes_back_where_there_are_none(dtype: torch.dtype) -> None:
    """CPUs compute with float16 in float32, where its subnormal numbers are normal ones."""
    program = swdc.trace(nn.Sequential(nn.Linear(3, 4)).to(dtype).eval(), X.to(dtype))
    with torch.no_grad():
        program.get_parameter("0.weight")[0] = 1e-5
    result = run(program, [FlushSubnormals()])
    assert not result.modified
    assert result.program is program


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with torch.no_grad():
        model[0].weight[0] = 1e-40
    program = swdc.trace(model.eval(), X)
    flushed = run(program, [FlushSubnormals()]).program
    assert flushed.tensors["0.weight"] is flushed.tensors["1.weight"]
    assert int((flushed.tensors["1.weight"] == 0).sum()) == 3


def test_integers_and_frozen_weights() -> None:
    program = traced(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False), image(2, 3))
    with torch.no_grad():
        program.get_parameter("0.weight")[0] = 1e-310
    flushed = apply(program, "flush-subnormals")
    assert not flushed.get_parameter("0.weight").requires_grad
    assert flushed.tensors["1.num_batches_tracked"] is program.tensors["1.num_batches_tracked"]


def test_what_is_asked_for_and_promised() -> None:
    with pytest.raises(PassError, match="expected tensors with values for flushing"):
        run(decayed().to("meta"), [FlushSubnormals()])
    with pytest.raises(PassError, match=r"expected no subnormal weights, \['shift', 'a.weight'\] have some"):
        FlushSubnormals().ensures(decayed())
