"""Complex numbers and Fourier transforms: pairs of reals and transformed dimensions keep all their indices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import Dead, plain
from swdc.channels.kept import Kept
from swdc.channels.routing import LaidOut
from swdc.ir.call import Call, Value
from swdc.ops.along_positions import AlongPositions
from swdc.ops.base import register
from swdc.ops.elementwise import Pointwise, equal
from swdc.ops.in_place import is_view


@register
class ComplexView(AlongPositions):
    """Pairs of reals along the last dimension, seen as complex numbers."""

    names = ("aten.view_as_complex.default", "aten.view_as_complex_copy.default")
    needs_layout = True

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The pairs."""
        return (-1,)

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """The dimension of the pairs disappears."""
        return dims[:-1]

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Pairs in the memory of a larger tensor are copied if it loses channels: an odd width would part them."""
        owner = call["self"]
        if not isinstance(owner, fx.Node):
            return {}
        while is_view(owner):
            owner = owner.all_input_nodes[0]
        counts = [kept.count(owner, d) for d, mask in enumerate(kept.masks(owner)) if mask is not None]
        return {"self": LaidOut(call["self"])} if any(n is not None and n % 2 for n in counts) else {}


@register
class RealView(AlongPositions):
    """Complex numbers, seen as pairs of reals along a new last dimension."""

    names = ("aten.view_as_real.default", "aten.view_as_real_copy.default")
    needs_layout = True

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """No dimension of the input."""
        return ()

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """The dimension of the pairs comes last."""
        return [*dims, fill]


@register
class ComplexPart(Pointwise):
    """Complex numbers from two reals, or one real from a complex number: zero from zeros."""

    names = ("aten.complex.default", "aten.polar.default", "aten.imag.default")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """The result is zero if the absolute value is zero, or if all parts are zero."""
        deciding = dead[:1] if call.operator == "aten.polar.default" else dead
        zero = np.logical_and.reduce(np.broadcast_arrays(*[equal(d, 0.0) for d in deciding]))
        return plain(np.where(zero, 0.0, np.nan))


_ONE = "fft ifft rfft irfft hfft ihfft".split()
_TWO = "fft2 ifft2 rfft2 irfft2 hfft2 ihfft2".split()
_MANY = "fftn ifftn rfftn irfftn hfftn ihfftn fftshift ifftshift".split()


@register
class Fourier(AlongPositions):
    """Fourier transforms: linear, so zeros stay zeros along the dimensions that are not transformed."""

    names = (
        *(f"aten.fft_{name}.default" for name in (*_ONE, *_TWO, *_MANY)),
        "aten._fft_c2c.default", "aten._fft_r2c.default", "aten._fft_c2r.default",
    )  # fmt: skip

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The dimensions that are transformed: those named, the last of a given number, or all."""
        named, sizes = call.arguments.get("dim"), call.arguments.get("s")
        if named is not None:
            return named if isinstance(named, list | tuple) else [named]
        return range(rank) if sizes is None else range(rank - len(sizes), rank)
