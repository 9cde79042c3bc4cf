"""Numbers taken by a mask, bit by bit: ``torch.where`` goes a branch a number on a CPU, and masks have no order.

By bits and not by products with ones and zeros, so that an infinity beside the mask makes no NaN. Masks of whole rows
(which are views of fewer numbers) have an order.
"""

from __future__ import annotations

import torch

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def where(chosen: torch.Tensor, numbers: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return ``torch.where(chosen, numbers, others)``, of the type of the others."""
    numbers = numbers.to(others.dtype)
    if not others.is_cpu or not chosen.is_contiguous():
        return torch.where(chosen, numbers, others)
    kind = _BITS[others.element_size()]
    mask, kept = chosen.view(torch.uint8).to(kind).neg_(), others.view(kind)
    return mask.bitwise_and_(numbers.view(kind) ^ kept).bitwise_xor_(kept).view(others.dtype)


def without(chosen: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Return numbers, with zeros where they are chosen."""
    if not numbers.is_cpu or not chosen.is_contiguous():
        return numbers.masked_fill(chosen, 0)
    kind = _BITS[numbers.element_size()]
    return chosen.view(torch.uint8).to(kind).sub_(1).bitwise_and_(numbers.view(kind)).view(numbers.dtype)
