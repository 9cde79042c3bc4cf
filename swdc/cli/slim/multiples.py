"""A hint at widths that kernels do not compute in whole blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BLOCK = 8
"""Kernels compute this many channels at once, or a multiple; they compute the rest of a last block, too."""


def multiples_hint(layers: Iterable[Mapping[str, Any]], round_to: int) -> str | None:
    """Return a line on layers that were cut to a width that is no multiple of 8.

    ``layers`` are those of ``Slimming.to_dict()``. Layers that had no such width before are not counted. Returns
    ``None`` if there is no such layer, or if ``round_to`` is more than 1: then the widths are what was asked for.
    """
    widths = [layer["width"] for layer in layers if None not in layer["width"].values()]
    cut = [width["after"] for width in widths if width["after"] < width["before"] and width["before"] % BLOCK == 0]
    odd = sum(width % BLOCK != 0 for width in cut)
    if round_to > 1 or not odd:
        return None
    are = "is" if odd == 1 else "are"
    return (
        f"{odd} of {len(cut)} widths that were cut {are} no multiple of {BLOCK}: --round-to {BLOCK} often runs faster"
    )
