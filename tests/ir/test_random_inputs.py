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


def test_inputs_of_other_sizes() -> None:
    model = Function(lambda m, x, i, k: m.a(x).mean(1) + m.e(i).mean(1) * k.mean(1, True), a=nn.Linear(3, 2), e=E)
    example = (torch.randn(4, 8, 3), torch.arange(20).view(4, 5), torch.tensor([[1.0, 1.0, 0.0]]).repeat(4, 1))
    program = swdc.trace(model, example)
    names = dict(zip(program.facts.symbols.values(), program.facts.symbols, strict=True))
    (x, i, k), _ = sample_inputs(program, 2, 0, None, sizes={names[8]: 6, names[5]: 7, names[3]: 2})
    assert (tuple(x.shape), tuple(i.shape), tuple(k.shape)) == ((2, 6, 3), (2, 7), (2, 2))
    rows = [set(row.tolist()) for row in example[1]]
    assert all(set(row.tolist()) in rows for row in i)
    assert bool((k == 1).all())


E = nn.Embedding(20, 2)
