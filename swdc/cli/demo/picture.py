"""A picture of the widths of every layer before and after."""

from __future__ import annotations

from pathlib import Path

from swdc.artifacts.report.slimming import widths
from swdc.errors import CommandError
from swdc.ir.program import Program
from swdc.ops import leaf_of
from swdc.ops.affine_layers import Layer


def layer_widths(program: Program) -> dict[str, int]:
    """Return the number of channels that each convolution and dense layer writes, by its path."""
    layers = {path for path, module in program.leaves.items() if isinstance(leaf_of(module), Layer)}
    return {path: width for path, width in widths(program).items() if path in layers}


def draw_widths(dense: Program, small: Program, path: Path, title: str) -> None:
    """Write a bar chart (PNG) of the widths of all layers of both programs."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CommandError("expected matplotlib for the picture; install it with pip install 'swdc[demo]'") from error
    before, after = layer_widths(dense), layer_widths(small)
    figure = Figure(figsize=(max(6.0, 0.42 * len(before)), 4.5), layout="constrained")
    axes = figure.subplots()
    positions = range(len(before))
    axes.bar(positions, list(before.values()), color="#d0d5dd", label="before")
    axes.bar(positions, [after[name] for name in before], color="#2563eb", label="after")
    for position, name in zip(positions, before, strict=True):
        axes.text(position, after[name], str(after[name]), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(list(positions), list(before), rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("channels written")
    axes.set_title(title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
