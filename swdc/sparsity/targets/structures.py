"""Structures: which groups of a program lose channels, what decides over a channel, and what of it is pulled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from swdc.analysis.residual import deciding_norms
from swdc.errors import PlanError
from swdc.ir.groups import WRITES, Ids, Member
from swdc.ir.options import HEADS as WHOLE_HEADS
from swdc.ir.program import Program
from swdc.sparsity.heads import head_groups
from swdc.sparsity.planning.budgets import Budget, Costs

CHANNELS, FILTERS, HEADS = "channels", "filters", "heads"


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


def parts_of(program: Program, structure: str, ignored: Collection[str]) -> list[Part]:
    """Return the groups that may lose channels; ``PlanError`` if there are none.

    ========== ============================= ====================================== ===============================
    structure  groups                        what decides                           what is pulled
    ========== ============================= ====================================== ===============================
    channels   those with a deciding norm    |gamma|                                gamma and beta
    channels   all, in a network without     the norm of all that writes a channel  all that writes it
    filters    all                           |gamma|, or that norm if there is none all that writes it
    heads      the heads of attentions       the norm of all that writes a head     all that writes it
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
        raise PlanError(_nothing(program, structure))
    return found


def costs_of(program: Program, structure: str, parts: list[Part]) -> Costs:
    """Return what a target is a share of: the parameters of the program, for heads their number."""
    return Number(parts) if structure == HEADS else Budget(program, "parameters")


class Number:
    """The number of channels that some groups keep, all of one weight."""

    kind = "heads"

    def __init__(self, parts: list[Part]) -> None:
        self._numbers = [part.number for part in parts]
        self.full = float(sum(part.width for part in parts))

    def cost(self, widths: Ids) -> float:
        """Return how many are left when group ``k`` keeps ``widths[k]`` channels."""
        return float(widths[self._numbers].sum())


def _nothing(program: Program, structure: str) -> str:
    if structure != HEADS:
        return "expected channels that can be removed; program.explain() says what is frozen"
    if program.facts.attention != WHOLE_HEADS:
        return (
            f"expected a program whose attentions lose whole heads for structure='heads', got one traced with "
            f"attention={program.facts.attention!r}; trace the model with attention='heads'"
        )
    return (
        "expected heads of attentions that can be removed for structure='heads', got a program without; "
        "program.explain() says what is frozen; structure='filters' takes channels of any kind"
    )
