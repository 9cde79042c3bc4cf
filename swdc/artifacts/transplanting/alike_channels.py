"""A model whose channels are nearly alike, so that an extremum over channels shows whether it counts a zero."""

from __future__ import annotations

import torch
from torch import nn

from swdc.ir.program import Program
from swdc.ops.statistics import Extremum

_SPREAD = 0.1
"""How much of their difference the channels keep: nearly all have one sign, and norms over channels stay harmless."""


def has_extremum(program: Program) -> bool:
    """Whether a program takes an extremum in which removed channels count as zeros."""
    return any(isinstance(module, Extremum) for module in program.modules())


@torch.no_grad()
def with_alike_channels(model: nn.Module) -> nn.Module:
    """Return a model after its parameters were drawn near to those of their first channel, in place.

    Code of the user's takes the extremum over the channels that are left, and the slim program that of these and zero.
    With random weights some channel is nearly always beyond zero, which hides that they differ.
    """
    for parameter in model.parameters():
        if parameter.dim() and parameter.is_floating_point():
            first = parameter[:1].clone()
            parameter.sub_(first).mul_(_SPREAD).add_(first)
    return model
