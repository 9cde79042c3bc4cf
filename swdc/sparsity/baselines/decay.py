"""Weight decay of a part of a parameter."""

from __future__ import annotations

import torch

from swdc.sparsity.method import gradient_of
from swdc.sparsity.targets import Target


def add_decay(target: Target, factor: float) -> None:
    """Add ``factor * w`` to the gradients of what is targeted: the gradient of ``factor / 2 * |w|^2``."""
    weight, gradient = target.parameter, gradient_of(target.parameter)
    if target.chosen.dtype == torch.bool:
        gradient.addcmul_(weight, target.chosen.to(weight.dtype), value=factor)
    else:
        gradient.index_add_(0, target.chosen, weight.index_select(0, target.chosen), alpha=factor)
