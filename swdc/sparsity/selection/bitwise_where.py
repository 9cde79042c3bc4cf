"""``torch.where`` by operations on bits, which is faster on a CPU.

There ``torch.where`` takes a branch for each number, and the masks of single weights have no pattern. Masks of whole
rows (which are views of fewer numbers) have one, and are left to torch. Products with ones and zeros are faster still,
but they turn infinity into NaN.
"""

from __future__ import annotations

import numpy as np
import torch

from swdc.sparsity.selection.cache_blocks import Buffers

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def where(chosen: torch.Tensor, numbers: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return ``torch.where(chosen, numbers, others)``, in the type of ``others``."""
    numbers = numbers.to(others.dtype)
    if not others.is_cpu or not chosen.is_contiguous():
        return torch.where(chosen, numbers, others)
    kind = _BITS[others.element_size()]
    mask, kept = chosen.view(torch.uint8).to(kind).neg_(), others.view(kind)
    return mask.bitwise_and_(numbers.view(kind) ^ kept).bitwise_xor_(kept).view(others.dtype)


def product(numbers: torch.Tensor, chosen: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return finite numbers of at least 32 bits where a mask is true, and zero elsewhere.

    On a CPU infinity becomes NaN where the mask is false.
    """
    if not numbers.is_cpu:
        return torch.mul(numbers, chosen, out=out)
    # numpy turns the mask into numbers as it goes, torch all of it before
    made = np.multiply(numbers.numpy(), chosen.view(torch.uint8).numpy(), out=None if out is None else out.numpy())
    return torch.from_numpy(made) if out is None else out


def apart(chosen: torch.Tensor, numbers: torch.Tensor, buffers: Buffers) -> tuple[torch.Tensor, torch.Tensor]:
    """Return finite numbers with zeros outside the chosen places, and with zeros inside them.

    On a CPU they are in buffers, and the second holds NaN where a number is not finite. Of infinity numpy warns, unless
    the caller has ``numpy.errstate(invalid="ignore")``.
    """
    if not numbers.is_cpu:
        return numbers.masked_fill(~chosen, 0), numbers.masked_fill(chosen, 0)
    inside = product(numbers, chosen, out=buffers.like(numbers))
    return inside, torch.sub(numbers, inside, out=buffers.like(numbers, 1))
