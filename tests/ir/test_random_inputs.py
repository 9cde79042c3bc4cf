"""Random inputs of the form of the example."""

from __future__ import annotations

import torch
from torch import nn

import swdc
from swdc.ir.random_inputs import sample_inputs
from tests.support import Function


def test_complex_inputs_are_drawn_at_any_batch() -> None:
    model = Function(lambda m, x: m.a(x.abs()), a=nn.Linear(3, 2))
    program = swdc.trace(model, torch.randn(4, 3, dtype=torch.complex64))
    drawn = [sample_inputs(program, 2, seed, None)[0][0] for seed in (0, 1)]
    assert [(tuple(x.shape), x.dtype) for x in drawn] == [((2, 3), torch.complex64)] * 2
    assert not bool((drawn[0].imag == drawn[1].imag).any())
    assert sample_inputs(program, 2, 0, torch.float64)[0][0].dtype == torch.complex128
