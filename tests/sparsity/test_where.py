"""Selection by a mask: the numbers of torch's own operations, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from swdc.sparsity.selection.bitwise_where import apart, product, where
from swdc.sparsity.selection.cache_blocks import Buffers

KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def numbers(kind: torch.dtype, seed: int) -> torch.Tensor:
    found = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(seed)).to(kind)
    found[0, :3, 0, 0] = torch.tensor([math.inf, math.nan, -math.inf], dtype=kind)
    found[0, 3, 0, :] = torch.tensor([0.0, -0.0], dtype=kind)
    return found


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_any_mask(kind: torch.dtype, layout: torch.memory_format) -> None:
    one, other = (numbers(kind, seed).contiguous(memory_format=layout) for seed in (0, 1))
    for share in (0.0, 0.5, 1.0):
        mask = torch.rand(one.shape, generator=torch.Generator().manual_seed(2)) < share
        for chosen in (mask, mask.contiguous(memory_format=layout), mask[:, :1, :1, :1].expand(one.shape)):
            before = bits(one).clone(), bits(other).clone()
            assert torch.equal(bits(where(chosen, one, other)), bits(torch.where(chosen, one, other)))
            assert torch.equal(bits(one), before[0])
            assert torch.equal(bits(other), before[1])


def test_numbers_take_the_type_of_the_others() -> None:
    one, other = numbers(torch.float64, 0), numbers(torch.float32, 1)
    chosen = one > 0
    assert torch.equal(bits(where(chosen, one, other)), bits(torch.where(chosen, one.float(), other)))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_parts_by_a_mask(kind: torch.dtype) -> None:
    one = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(0)).to(kind)
    mask = torch.rand(one.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    for chosen in (mask, mask.contiguous(memory_format=torch.channels_last), mask[:, :1, :1, :1].expand(one.shape)):
        inside, outside = apart(chosen, one, Buffers())
        assert torch.equal(inside, one.masked_fill(~chosen, 0))
        assert torch.equal(outside, one.masked_fill(chosen, 0))
        written = torch.full_like(one, math.nan)
        assert product(one, chosen, out=written) is written
        assert torch.equal(written, inside)
    one[0, 0, 0, 0] = math.inf
    with np.errstate(invalid="ignore"):
        assert apart(mask, one, Buffers())[1].isnan().any()
