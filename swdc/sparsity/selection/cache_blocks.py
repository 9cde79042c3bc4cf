"""Tensors in pieces that fit in the cache of one core: large ones are cut, small ones are packed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

PIECE = 32768
"""Numbers in a piece: the most that torch computes in one thread."""


def packs(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Return packs of positions of tensors, in order: neighbours of one type and device that fit in one piece."""
    found: list[list[int]] = []
    kind, room = None, 0
    for number, tensor in enumerate(tensors):
        room -= tensor.numel()
        if room < 0 or kind != (tensor.dtype, tensor.device):
            kind, room = (tensor.dtype, tensor.device), PIECE - tensor.numel()
            found.append([])
        found[-1].append(number)
    return found


def joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a copy of tensors one after the other, in one dimension."""
    return torch.cat([t if t.dim() == 1 else t.reshape(-1) for t in tensors])


def parted(line: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parts of a line that ``joined`` made, as views in the shapes of the tensors in ``like``."""
    parts = torch.split_with_sizes(line, [t.numel() for t in like])
    return [part if t.dim() == 1 else part.view(t.shape) for part, t in zip(parts, like, strict=True)]


def flat(*tensors: torch.Tensor) -> list[torch.Tensor] | None:
    """Return one-dimensional views of tensors of one shape, all in the same order; ``None`` if there are none."""
    if all(t.is_contiguous() for t in tensors):
        return [t.view(-1) for t in tensors]
    if all(t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return [t.permute(0, 2, 3, 1).view(-1) for t in tensors]
    return None


def pieces(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the same pieces of tensors of one shape, as views.

    Tensors are not cut if they are small, if they have no flat views, or if they are not on the CPU, because the pieces
    are made for its caches.
    """
    views = None if tensors[0].numel() <= PIECE or not tensors[0].is_cpu else flat(*tensors)
    if views is None:
        yield tensors
    else:
        yield from zip(*(torch.split(view, PIECE) for view in views), strict=True)


def lines(*tensors: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the same pieces of lists of tensors of the same shapes. Only read them: small ones are joined copies."""
    for pack in packs(tensors[0]):
        held = [[own[number] for number in pack] for own in tensors]
        if len(pack) == 1:
            yield from pieces(*(own[0] for own in held))
        else:
            yield tuple(joined(own) for own in held)


def edited(tensors: Sequence[torch.Tensor], *others: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield what ``lines`` yields; what is written to the pieces of the first tensors is written to the tensors."""
    for pack in packs(tensors):
        held = [[own[number] for number in pack] for own in (tensors, *others)]
        if len(pack) == 1:
            yield from pieces(*(own[0] for own in held))
            continue
        line, *rest = (joined(own) for own in held)
        yield line, *rest
        torch._foreach_copy_(held[0], parted(line, held[0]))


class Buffers:
    """Memory for what is computed from a piece; it is used again for the next piece, and so stays in the cache."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, torch.dtype, int], torch.Tensor] = {}

    def like(self, piece: torch.Tensor, number: int = 0, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a tensor of the shape of a piece, on the CPU; of a ``number``, type and size it is the same memory."""
        key = (number, dtype or piece.dtype, piece.numel())
        line = self._held.get(key)
        if line is None:
            line = self._held[key] = torch.empty(key[2], dtype=key[1], device="cpu")
        return line if piece.dim() == 1 else line.view(piece.shape)
