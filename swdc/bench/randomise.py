"""Random weights for comparisons: whatever starts constant hides errors, so nothing is left constant."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill batch-norm statistics and every parameter that starts constant or is a vector with random values.

    Changes the model in place and returns it. Weights that are random already stay.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                _fill(module.running_mean, 0.0, 0.3, generator)
                _fill(module.running_var, None, None, generator)
                _fill(module.weight, None, None, generator)
                _fill(module.bias, 0.0, 0.2, generator)
        for parameter in model.parameters():
            if parameter.numel() and (parameter.dim() < 2 or bool((parameter == parameter.flatten()[0]).all())):
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.1)
    return model


def _fill(tensor: torch.Tensor | None, mean: float | None, deviation: float | None, generator: torch.Generator) -> None:
    """Draw from a normal distribution, or, without a mean, uniformly from [0.5, 1.5)."""
    if tensor is None:
        return
    if mean is None or deviation is None:
        tensor.uniform_(0.5, 1.5, generator=generator)
    else:
        tensor.normal_(mean, deviation, generator=generator)
