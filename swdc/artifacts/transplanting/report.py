"""The warnings about a transplanted model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from swdc.ir.program import Program

_CALLER = 5
"""How far above a warning the line stands that called swdc."""


def report(
    name: str, slim: Program, replaced: Sequence[str], sized: bool, kept: Sequence[str], elsewhere: str
) -> None:  # fmt: skip
    """Warn of what is wrong at other sizes, not compared, replaced, or not read.

    ``replaced`` describes the modules that are parts of the slim program, ``sized`` says if these take only the sizes
    of the example, ``kept`` names the tensors that stay as they are.
    """
    if elsewhere:
        warnings.warn(
            f"{name} with fewer channels {elsewhere}, where the masked model does not: its code mixes channels with "
            f"positions, or reads sizes of the example; use it at the sizes of the example, or trace the model at the "
            f"sizes that you need",
            stacklevel=_CALLER,
        )
    origin = slim.facts.origin
    if slim.facts.example_only and origin is not None and origin.plan.removed_channels:
        warnings.warn(
            f"recorded on the example inputs, so {name} is compared where its code goes as it does on them: what other "
            f"code computes with fewer channels is not known; try inputs on which it runs",
            stacklevel=_CALLER,
        )
    if replaced:
        sizes = ", with the sizes of the example" if sized else ""
        warnings.warn(f"replaced by their part of the slim program{sizes}: {_some(replaced)}", stacklevel=_CALLER)
    if kept:
        warnings.warn(
            f"not read in evaluation and kept as they are, so they may not fit any more: {_some(kept)}",
            stacklevel=_CALLER,
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
