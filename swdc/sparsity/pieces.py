"""Tensors as flat views, and in pieces that stay in the cache of one core."""

from __future__ import annotations

from collections.abc import Iterator

import torch

PIECE = 32768
"""Numbers in a piece: the most for which torch wakes no other thread."""


def flat(*tensors: torch.Tensor) -> list[torch.Tensor] | None:
    """Return views of one dimension that run through tensors of one shape in one order; ``None`` if there are none."""
    if all(t.is_contiguous() for t in tensors):
        return [t.view(-1) for t in tensors]
    if all(t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return [t.permute(0, 2, 3, 1).view(-1) for t in tensors]
    return None


def pieces(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the same pieces of tensors of one shape, as views; the tensors themselves where no flat views exist."""
    views = flat(*tensors)
    if views is None or views[0].numel() <= PIECE:
        yield tensors
    else:
        yield from zip(*(torch.split(view, PIECE) for view in views), strict=True)
