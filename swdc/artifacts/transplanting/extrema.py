"""Extrema over channels: a slim program counts removed channels as zeros, which the user's own code does not."""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx, nn

from swdc.artifacts.transplanting.part_module import Extracted
from swdc.errors import TransplantError
from swdc.ir.call import source_of
from swdc.ir.graph import SCOPE
from swdc.ir.program import Program
from swdc.ops.signs import counting_zeros


def forgotten(slim: Program, mine: nn.Module) -> dict[fx.Node, bool]:
    """Return the extrema for which a model lacks zeros that may decide them, and whether each is a maximum.

    A model has them where it is a program, or where a part of one takes the place of the module around.
    """
    if isinstance(mine, Program):
        return {}
    parts = {p for p, m in mine.named_modules(remove_duplicate=False) if isinstance(m, Extracted)}
    return {node: largest for node, largest in counting_zeros(slim) if parts.isdisjoint(holders(node))}


def holders(node: fx.Node) -> Iterator[str]:
    """Yield the paths of the modules in which a node was traced, the innermost first, without the model itself."""
    path = str(node.meta.get(SCOPE) or "")
    while path:
        yield path
        path = path.rpartition(".")[0]


def check_extrema(slim: Program, mine: nn.Module) -> None:
    """Raise ``TransplantError`` if an extremum of a model may lack a zero that decides it in the slim program."""
    for node, largest in forgotten(slim, mine).items():
        kind, side, function = ("maximum", "negative", "relu") if largest else ("minimum", "positive", "-relu(-x)")
        where = source_of(node) or f"in {node.meta.get(SCOPE) or 'the forward of the model'}"
        raise TransplantError(
            f"expected a {kind} over channels that cannot be {side}, because the slim program counts removed channels "
            f"as zeros and the class does not, got one of channels that may all be {side}: {where}; apply {function} "
            f"before the {kind} and prune anew, or use the slim program itself"
        )
