"""The k-th smallest of many numbers on an accelerator, found bit by bit without making the host wait."""

from __future__ import annotations

from collections.abc import Callable

import torch

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def smallest(
    numbers: torch.Tensor, count: int, sum_: Callable[[torch.Tensor], torch.Tensor] = lambda counted: counted
) -> torch.Tensor:
    """Return the ``count``-th smallest of floating-point numbers, as a tensor without dimensions on their device.

    ``sum_`` adds up counts over processes, in place, if the processes hold different numbers.

    A radix selection with digits of one bit: each pass over the numbers settles one bit of the result. Nothing is
    copied to the host, sorted, or scattered.
    """
    keys = _keys(numbers)
    width = keys.element_size() * 8
    # The first count settles whether the result is negative, each of the others settles one bit.
    zero = torch.zeros((), dtype=keys.dtype, device=keys.device)
    found = torch.where(sum_(_under(keys, zero)) < count, zero, torch.full_like(zero, -(2 ** (width - 1))))
    for bit in reversed(range(width - 1)):
        higher = found | (1 << bit)
        found = torch.where(sum_(_under(keys, higher)) < count, higher, found)
    return _numbers(found, numbers.dtype)


def _under(keys: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Return how many keys lie under a limit."""
    return (keys < limit).sum()


def _keys(numbers: torch.Tensor) -> torch.Tensor:
    """Return integers in the order of floating-point numbers: negative numbers have all bits but the sign flipped."""
    bits = (numbers + 0.0).view(_INTEGERS[numbers.element_size()])  # negative zero becomes zero
    return bits ^ ((bits >> (bits.element_size() * 8 - 1)) & torch.iinfo(bits.dtype).max)


def _numbers(keys: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    bits = keys ^ ((keys >> (keys.element_size() * 8 - 1)) & torch.iinfo(keys.dtype).max)
    return bits.view(dtype)
