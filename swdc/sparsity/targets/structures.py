"""Structures: which groups of a program lose channels, what decides over a channel, and what is pulled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from swdc.analysis.heads import HEADS, head_groups, no_heads
from swdc.analysis.residual import deciding_norms
from swdc.errors import PlanError
from swdc.ir.groups import WRITES, Member
from swdc.ir.program import Program

CHANNELS, FILTERS = "channels", "filters"


@dataclass(frozen=True)
class Part:
    """A group that may lose channels.

    ``by_gain`` says that the gains of its batch norms decide; otherwise everything that writes a channel does.
    """

    number: int
    width: int
    by_gain: bool
    deciding: tuple[Member, ...]
    pulled: tuple[Member, ...]


def parts_of(program: Program, structure: str, ignored: Collection[str], frozen: bool = False) -> list[Part]:
    """Return the groups that may lose channels; ``PlanError`` if there are none.

    ========== ============================= ====================================== ===============================
    structure  groups                        what decides                           what is pulled
    ========== ============================= ====================================== ===============================
    channels   those with a deciding norm    |gamma|                                gamma and beta
    channels   all, in a network without     the norm of the weights that write it  the weights that write it
    filters    all                           |gamma|, or that norm if there is none the weights that write it
    heads      the heads of attentions       the norm of the weights that write it  the weights that write it
    ========== ============================= ====================================== ===============================
    """
    paths = deciding_norms(program) if structure != HEADS else []
    gains, shifts = {f"{path}.weight" for path in paths}, {f"{path}.bias" for path in paths}
    chosen = head_groups(program) if structure == HEADS else set(program.coupling.names())
    tensors = program.tensors
    found = []
    for number, group in enumerate(program.groups):
        written = tuple(m for m in group.with_role(WRITES) if isinstance(tensors[m.tensor], nn.Parameter))
        decided = tuple(m for m in written if m.tensor in gains)
        if group.name in ignored or group.name not in chosen or not written:
            continue
        if structure == CHANNELS and gains and not decided:
            continue
        norms = tuple(m for m in written if m.tensor in gains | shifts)
        pulled = norms if structure == CHANNELS and gains else written
        found.append(Part(number, group.width, bool(decided), decided or written, pulled))
    if not found:
        raise PlanError(_nothing(program, structure) + ("; some parameters are frozen, and stay" if frozen else ""))
    return found


def _nothing(program: Program, structure: str) -> str:
    if structure != HEADS:
        return "expected channels that can be removed; program.explain() says what is frozen"
    return no_heads(program) + "; structure='filters' takes channels of any kind"
