"""The part of a program that was traced in one module."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils import _pytree as pytree

import swdc
from swdc.artifacts.transplanting.expected_tensors import IN, OUT, Side
from swdc.artifacts.transplanting.graph_part import _Extraction
from tests.support import Function


def test_tensors_of_the_program_alone_have_names_of_their_own() -> None:
    parts = {"a": nn.ParameterDict({"b": torch.ones(3)}), "a_b": nn.Parameter(torch.zeros(3))}
    program = swdc.trace(Function(lambda m, x: x * m.a["b"] + m.a_b, **parts), torch.randn(2, 3))
    empty = Side((), pytree.tree_flatten(())[1])
    extraction = _Extraction(program, "", nn.Module(), {IN: empty, OUT: empty}, elsewhere=(), batch=2)
    names = [extraction._own(name) for name in ("a.b", "a_b", "a.b")]
    assert names == ["a_b", "a_b_", "a_b"]
    assert extraction.foreign["a_b"] is program.tensors["a.b"]
    assert extraction.foreign["a_b_"] is program.tensors["a_b"]
