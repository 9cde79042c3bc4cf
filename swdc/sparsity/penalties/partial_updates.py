"""Changes of the targeted parts of parameters, which leave all other parts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from swdc.ir.distributed import is_spread, local
from swdc.sparsity.method import gradient_of
from swdc.sparsity.selection.bitwise_where import product, where
from swdc.sparsity.selection.cache_blocks import PIECE, Buffers, edited, joined, packs, parted, pieces
from swdc.sparsity.targets.base import Target

Tensors = Callable[[torch.Tensor], torch.Tensor]


class Pull:
    """Targets prepared to be pulled in few operations, for as long as they stay the same."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._large, small = _apart(targets)
        self._parameters = [target.parameter for target in small]
        self._masks = [target.chosen.to(target.parameter.dtype) for target in small]  # torch multiplies these faster

    def add_(self, scale: float, slope: Tensors) -> None:
        """Add ``scale * slope(w)`` to the gradients of the targets (see ``pull_``)."""
        for target in self._large:
            pull_(gradient_of(target.parameter), target, scale, slope)
        if self._parameters:
            gradients, slopes = [gradient_of(p) for p in self._parameters], [slope(p) for p in self._parameters]
            torch._foreach_addcmul_(gradients, slopes, self._masks, value=scale)


def change_all_(targets: Sequence[Target], changed: Tensors) -> None:
    """Replace targeted weights ``w`` by ``changed(w)`` (see ``change_``), in few operations."""
    large, small = _apart(targets)
    for target in large:
        change_(target, changed)
    for pack in packs([target.parameter for target in small]):
        parameters = [small[number].parameter.detach() for number in pack]
        weights, chosen = joined(parameters), joined([small[number].chosen for number in pack])
        torch._foreach_copy_(parameters, parted(where(chosen, changed(weights), weights), parameters))


def lessen_all_(targets: Sequence[Target], amount: torch.Tensor) -> None:
    """Take an amount from the magnitude of every targeted weight, down to zero: the proximal map of the L1 norm."""
    wide = [t for t in targets if not t.rest and t.parameter.element_size() >= 4]
    weights, masks = [local(t.parameter.detach()) for t in wide], [local(t.chosen) for t in wide]
    buffers = Buffers()
    for some, chosen in edited(weights, masks):
        taken = _within(some, amount, out=buffers.like(some) if some.is_cpu else None)
        some.sub_(product(taken, chosen, out=taken))
    change_all_([t for t in targets if t.rest or t.parameter.element_size() < 4], partial(_lessened, amount=amount))


def _within(numbers: torch.Tensor, most: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return numbers between ``-most`` and ``most``."""
    if numbers.is_cpu:
        return torch.clamp(numbers, -float(most), float(most), out=out)
    high = most.to(numbers.dtype)
    return torch.minimum(torch.maximum(numbers, -high), high)


def _lessened(weight: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    return weight - _within(weight, amount)


def pull_(gradient: torch.Tensor, target: Target, scale: float, slope: Tensors) -> None:
    """Add ``scale * slope(w)`` to the gradient of a target.

    16-bit numbers are added up in float32; a sum that exceeds their range becomes the largest number of their type.
    """
    weight, chosen = local(target.parameter.detach()), local(target.chosen)
    for some, grown, mask in pieces(weight, local(gradient), chosen):
        if target.rest:
            some = some - target.rest
        if grown.element_size() < 4:
            grown.copy_(where(mask, _sum(grown, slope(_wide(some)), scale), grown))
        else:
            ones = mask.view(torch.uint8).to(grown.dtype) if mask.is_contiguous() else mask  # faster to multiply by
            grown.addcmul_(slope(some), ones, value=scale)


def change_(target: Target, changed: Tensors) -> None:
    """Replace targeted weights ``w`` by ``changed(w)``; 16-bit weights are changed in float32."""
    for some, mask in pieces(local(target.parameter.detach()), local(target.chosen)):
        wide = _wide(some)
        new = changed(wide - target.rest) + target.rest if target.rest else changed(wide)
        some.copy_(where(mask, new, some))


def _apart(targets: Sequence[Target]) -> tuple[list[Target], list[Target]]:
    """Return the targets to treat one by one, and those to treat together: small ones of at least 32 bits.

    Those whose weights are removed by another value than zero are treated one by one.
    """
    large, small = list[Target](), list[Target]()
    for target in targets:
        parameter = target.parameter
        fits = (
            not target.rest
            and parameter.numel() <= PIECE
            and parameter.element_size() >= 4
            and not is_spread(parameter)
        )
        (small if fits else large).append(target)
    return large, small


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.element_size() < 4 else tensor


def _sum(gradient: torch.Tensor, slopes: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``gradient + scale * slopes`` in 16 bits; a finite gradient stays in the range of its type."""
    most = torch.finfo(gradient.dtype).max
    wide = torch.add(_wide(gradient), slopes, alpha=scale)
    return torch.where(gradient.isfinite(), wide.clamp(-most, most), wide).to(gradient.dtype)
