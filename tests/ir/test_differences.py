"""The difference of two outputs, as one number."""

from __future__ import annotations

import torch

from swdc.ir.differences import relative_error


def test_imaginary_parts_count() -> None:
    wanted = torch.tensor([1 + 1j, 2 - 1j])
    assert relative_error(wanted, wanted) == 0
    assert relative_error(wanted, wanted + 5j) > 1
    assert relative_error(wanted.real, wanted) > 0.1
