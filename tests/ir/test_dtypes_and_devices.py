"""The types and devices that a program's graph names."""

from __future__ import annotations

import torch

import swdc
from swdc.ir.dtypes_and_devices import cast_literals, default_dtype, move_literals_to_cpu
from swdc.ir.program import Program
from tests.support import Function


def named(program: Program) -> list[torch.dtype | torch.device]:
    """Return the types and devices among the arguments of a program's calls, in the order of the graph."""
    values = [value for node in program.graph.nodes for value in (*node.args, *node.kwargs.values())]
    return [value for value in values if isinstance(value, torch.dtype | torch.device)]


def program() -> Program:
    """Return a program that makes tensors of its own on the meta device."""

    def ramp(own: Function, x: torch.Tensor) -> torch.Tensor:
        made = [torch.arange(4, dtype=dtype, device=x.device) for dtype in (torch.float32, torch.float64, torch.int64)]
        return x + made[0] + made[1] + made[2]

    return swdc.trace(Function(ramp), torch.zeros(2, 4, device="meta"))


def test_types_are_cast_where_the_graph_names_them() -> None:
    made = program()
    cast_literals(made, (torch.float32, torch.float64), torch.float16)
    assert [value for value in named(made) if isinstance(value, torch.dtype)] == [*[torch.float16] * 2, torch.int64]
    with default_dtype(torch.float16):
        assert made.eval().code.count("torch.float16") == 2  # the code is written anew


def test_the_meta_device_becomes_the_cpu() -> None:
    made = program()
    assert set(map(str, named(made))) >= {"meta"}
    move_literals_to_cpu(made)
    assert {str(value) for value in named(made) if isinstance(value, torch.device)} == {"cpu"}
    assert made(torch.ones(1, 4)).tolist() == [[1.0, 4.0, 7.0, 10.0]]


def test_the_default_type_is_put_back() -> None:
    before = torch.get_default_dtype()
    with default_dtype(torch.float64):
        assert torch.zeros(1).dtype == torch.float64
    assert torch.get_default_dtype() == before
