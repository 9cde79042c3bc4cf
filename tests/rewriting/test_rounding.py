"""Rounding is told from a difference, for complex results and for results of other shapes, too."""

from __future__ import annotations

import torch

from swdc.rewriting.certificate import FACTOR
from swdc.rewriting.rounding import farthest, largest, lost_digits, own_errors, runtime_errors, wide_errors


def complex_numbers() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 6, generator=generator, dtype=torch.complex128)


def test_draws_leave_complex_results_complex() -> None:
    wide = complex_numbers()
    narrow, draws = wide.to(torch.complex64), [[wide + 1e-7]]
    (moved,) = farthest([wide], [narrow], draws)
    assert moved.dtype == torch.complex64
    assert largest(own_errors([wide], [moved], [narrow])) <= FACTOR
    assert largest(own_errors([wide], [moved], [narrow + 5j])) > FACTOR
    assert largest(own_errors([wide], [moved], [narrow.real])) > FACTOR


def test_another_shape_is_an_error_of_any_size() -> None:
    one, other = torch.ones(4, 3), torch.ones(3)
    inf = float("inf")
    assert largest(wide_errors([one], [other])) == inf
    for shapes in [(one, one, other), (one, other, one), (other, one, one)]:
        wide, masked, slim = ([tensor, tensor] for tensor in shapes)
        assert largest(own_errors(wide, masked, slim)) == inf
        assert largest(runtime_errors(wide, masked, slim, FACTOR)) == inf
    assert farthest([one], [other], [[one]]) == [other]
    assert lost_digits([one], [other]) == inf
