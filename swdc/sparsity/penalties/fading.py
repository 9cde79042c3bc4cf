"""Gradients of the targets fade, and none of them exceeds the largest gradient outside the targets."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from swdc.ir.distributed import Together, local
from swdc.sparsity.method import gradient_of
from swdc.sparsity.selection.bitwise_where import apart, where
from swdc.sparsity.selection.cache_blocks import Buffers, edited, lines
from swdc.sparsity.targets import Target

Number = float | torch.Tensor
Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Gradients, each with the mask of what is targeted."""


def fade_(
    parameters: Sequence[nn.Parameter], targets: Sequence[Target], steady: Collection[int], factor: float,
    together: Together,
) -> None:  # fmt: skip
    """Clamp the gradients of the targets to the largest magnitude outside the targets, and multiply them by ``factor``.

    Gradients of parameters whose ids are in ``steady`` stay as they are. If no gradient outside the targets differs
    from zero, nothing is clamped. Collective.

    One pass multiplies and finds the largest magnitudes. What exceeds the limit, which is rare, is clamped after it.
    """
    masks = {id(target.parameter): local(target.chosen) for target in targets}
    held = [(id(p), local(gradient_of(p))) for p in parameters if p.grad is not None]
    pairs = {number: (gradient, masks[number]) for number, gradient in held if number in masks and gradient.numel()}
    fading = [pair for number, pair in pairs.items() if number not in steady]
    ends = _largest([g for number, g in held if number not in masks], [p for n, p in pairs.items() if n in steady])
    within, buffers = list[Number](), Buffers()
    with np.errstate(invalid="ignore"):
        for gradient, chosen in _blocks(fading):
            largest, outside = _fade_block_(gradient, chosen, factor, buffers)
            within.append(largest)
            ends.append(outside)
    device = parameters[0].device
    most = together.max_(_tensor([0.0, *ends], device).max())
    if within and factor:
        _clamp_(fading, _tensor(within, device), torch.where(most == 0, math.inf, most) * factor)


def _largest(whole: Sequence[torch.Tensor], pairs: Pairs) -> list[Number]:
    """Return the largest magnitudes of gradients without a mask, and of others outside theirs."""
    found = [gradient for (gradient,) in lines([gradient for gradient in whole if gradient.numel()])]
    parts = lines([gradient for gradient, _ in pairs], [chosen for _, chosen in pairs])
    return [_most(part) for part in (*found, *(gradient.masked_fill(chosen, 0) for gradient, chosen in parts))]


def _fade_block_(
    gradient: torch.Tensor, chosen: torch.Tensor, factor: float, buffers: Buffers
) -> tuple[Number, Number]:
    """Multiply the chosen gradients; return the largest magnitudes of these, and of the others."""
    numbers = gradient.float() if gradient.element_size() < 4 else gradient
    inside, outside = apart(chosen, numbers, buffers)
    largest = _most(outside)
    if isinstance(largest, float) and not math.isfinite(largest):
        inside, outside = numbers.masked_fill(~chosen, 0).nan_to_num_(nan=math.nan), numbers.masked_fill(chosen, 0)
        largest = _most(outside)
    within = _most(inside.mul_(factor))
    if numbers is gradient:
        torch.add(outside, inside, out=gradient)
    else:
        gradient.copy_(outside.add_(inside))
    return within, largest


def _clamp_(fading: Pairs, within: torch.Tensor, most: torch.Tensor) -> None:
    """Clamp the blocks of which the largest magnitude, in ``within``, is above ``most``."""
    if not most.is_cpu:
        above = [True] * len(within)  # without making the host wait
    elif not any(above := (within > most).tolist()):
        return
    for exceeds, (gradient, chosen) in zip(above, _blocks(fading), strict=True):
        if exceeds:
            high = most.to(gradient.dtype)
            gradient.copy_(where(chosen, torch.minimum(torch.maximum(gradient, -high), high), gradient))


def _blocks(fading: Pairs) -> Iterator[tuple[torch.Tensor, ...]]:
    return edited([gradient for gradient, _ in fading], [chosen for _, chosen in fading])


def _most(numbers: torch.Tensor) -> Number:
    """Return the largest magnitude: a number on a CPU, elsewhere a tensor, for which the host need not wait."""
    low, high = numbers.aminmax()
    return max(-float(low), float(high)) if numbers.is_cpu else torch.maximum(-low, high)


def _tensor(numbers: Sequence[Number], device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return torch.tensor(numbers, dtype=torch.float64)
    return torch.stack([torch.as_tensor(number, dtype=torch.float64, device=device) for number in numbers])
