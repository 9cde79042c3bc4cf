"""What is done to the targeted part of a parameter, and to nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from swdc.distributed import local
from swdc.sparsity.pieces import pieces
from swdc.sparsity.targets.base import Target

Tensors = Callable[[torch.Tensor], torch.Tensor]


def pull_(gradient: torch.Tensor, target: Target, scale: float, slope: Tensors) -> None:
    """Add ``scale * slope(w)`` to the gradient of what is targeted.

    Numbers of 16 bits are added up in float32; what exceeds their range becomes the largest that they hold.
    """
    weight, chosen = local(target.parameter.detach()), local(target.chosen)
    gradient = local(gradient)
    if chosen.dtype != torch.bool:
        pulled = _sum(gradient.index_select(0, chosen), slope(_wide(weight.index_select(0, chosen))), scale)
        gradient.index_copy_(0, chosen, pulled)
        return
    for some, grown, where in _parts(weight, gradient, chosen):
        if grown.element_size() < 4:
            grown.copy_(torch.where(where, _sum(grown, slope(_wide(some)), scale), grown))
        else:
            grown.addcmul_(slope(some), where.to(grown.dtype), value=scale)


def change_(target: Target, changed: Tensors) -> None:
    """Put ``changed(w)`` in the place of what is targeted; weights of 16 bits are changed in float32."""
    weight, chosen = local(target.parameter.detach()), local(target.chosen)
    if chosen.dtype != torch.bool:
        some = weight.index_select(0, chosen)
        weight.index_copy_(0, chosen, changed(_wide(some)).to(some.dtype))
        return
    for some, where in _parts(weight, chosen):
        some.copy_(torch.where(where, changed(_wide(some)), some))


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.element_size() < 4 else tensor


def _parts(*tensors: torch.Tensor) -> Iterable[tuple[torch.Tensor, ...]]:
    return pieces(*tensors) if tensors[0].device.type == "cpu" else [tensors]


def _sum(gradient: torch.Tensor, slopes: torch.Tensor, scale: float) -> torch.Tensor:
    """Return ``gradient + scale * slopes``; what was finite stays in the range of its type."""
    if gradient.element_size() >= 4:
        return torch.add(gradient, slopes, alpha=scale)
    most = torch.finfo(gradient.dtype).max
    wide = torch.add(_wide(gradient), slopes, alpha=scale)
    return torch.where(gradient.isfinite(), wide.clamp(-most, most), wide).to(gradient.dtype)
