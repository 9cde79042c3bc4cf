"""The types that networks compute in: float64 mostly, otherwise narrower ones, throughout or in some parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from swdc.ir.differences import flat_outputs
from tests.fuzzing.blocks import Draw

WIDE = "float64"
SHARE = 0.25
"""The share of networks in narrower types."""


class Narrowed(nn.Module):
    """A part that computes in another type than what is around it."""

    def __init__(self, part: nn.Module, inside: torch.dtype, outside: torch.dtype) -> None:
        super().__init__()
        self.part = part.to(inside)
        self.inside, self.outside = inside, outside

    def forward(self, *values: Tensor) -> Tensor:
        """Return the result of the part in the type of what is around it."""
        result: Tensor = self.part(*(in_type(value, self.inside) for value in values))
        return result.to(self.outside)


def draw_types(draw: Draw) -> str:
    """Return the types of a network: that of most of it, and after a plus that of some parts."""
    if not draw.flip(SHARE):
        return WIDE
    return draw.one_of(
        "float32", "float32", "bfloat16", "float16",
        "float64+float32", "float32+bfloat16", "float32+float16", "bfloat16+float32", "float32+float64",
    )  # fmt: skip


def converted(network: Any, inputs: tuple[Tensor, ...], types: str, draw: Draw) -> tuple[Any, tuple[Tensor, ...]]:
    """Return a network of parts and its inputs in the given types."""
    if types == WIDE:
        return network, inputs
    outside, inside = ([getattr(torch, name) for name in types.split("+")] * 2)[:2]
    network.to(outside)
    for number, part in enumerate(network.parts):
        if inside != outside and draw.flip():
            network.parts[number] = Narrowed(part, inside, outside)
    return network, tuple(in_type(value, outside) for value in inputs)


def in_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in a type; whole numbers stay what they are."""
    return value.to(dtype) if value.is_floating_point() else value


def runs(model: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether torch runs a model in its types on this machine, with results that are finite and always the same."""
    if any(map(_is_unsteady, model.modules())):
        return False
    try:
        with torch.no_grad():
            outputs = flat_outputs(model(*(value.clone() for value in inputs)))
    except (RuntimeError, ValueError):  # a kernel that knows no half precision, or types that do not go together
        return False
    return all(bool(output.isfinite().all()) for output in outputs)


def _is_unsteady(module: nn.Module) -> bool:
    """Whether torch's kernel for a layer returns memory that it has not written (seen in torch 2.15 on a CPU)."""
    return isinstance(module, nn.Conv3d) and module.weight.dtype == torch.bfloat16
