"""The sizes that convolutions, pools and concatenations are said to return are those that torch returns."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from swdc.ir.call import bind_arguments
from swdc.ops.in_place import operator_of


def told(target: Any, *args: Any) -> list[list[int]]:
    found = operator_of(target).sizes_of_results(target, bind_arguments(target, args, {}))
    assert found is not None
    return [list(sizes) for sizes in found]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("samples", [(), (2,)])
def test_a_convolution_returns_the_sizes_that_are_told(rank: int, samples: tuple[int, ...]) -> None:
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    target = getattr(torch.ops.aten, f"conv{rank}d").default
    x, weight = torch.zeros(*samples, 4, *range(7, 7 + rank)), torch.zeros(6, 2, *range(2, 2 + rank))
    for stride, padding, dilation in product((1, 2, 3), (0, 1, 2), (1, 2)):
        expected = convolve(x, weight, None, stride, padding, dilation, 2).shape
        assert told(target, x, weight, None, [stride] * rank, [padding], [dilation] * rank, 2) == [list(expected)]


def test_a_convolution_that_cannot_run_is_left_to_torch() -> None:
    target, weight = torch.ops.aten.conv2d.default, torch.zeros(6, 3, 3, 3)
    for x in (torch.zeros(2, 4, 8, 8), torch.zeros(8, 8), torch.zeros(1, 2, 3, 8, 8)):
        assert operator_of(target).sizes_of_results(target, bind_arguments(target, (x, weight), {})) is None
    with pytest.raises(RuntimeError):
        told(target, torch.zeros(2, 3, 2, 8), weight)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_a_concatenation_returns_the_sizes_that_are_told(dim: int) -> None:
    parts = [torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)]
    assert told(torch.ops.aten.cat.default, parts, dim) == [list(torch.cat(parts, dim).shape)]


def test_a_concatenation_of_other_sizes_is_left_to_torch() -> None:
    target = torch.ops.aten.cat.default
    for parts in ([torch.zeros(2, 3), torch.zeros(2, 4)], [torch.zeros(2, 3), torch.zeros(2)]):
        assert operator_of(target).sizes_of_results(target, bind_arguments(target, (parts, 0), {})) is None
