"""Structures: which groups of a program lose channels, what decides over a channel, and what is pulled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx, nn

from swdc.analysis.residual import deciding_norms
from swdc.errors import PlanError
from swdc.ir.call import Call
from swdc.ir.groups import WRITES, Ids, Member, labelled
from swdc.ir.program import Program
from swdc.ir.trace_options import HEADS as WHOLE_HEADS
from swdc.ops import calls

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


class NumberOfHeads:
    """The total number of heads that the groups keep."""

    kind = "heads"

    def __init__(self, parts: list[Part]) -> None:
        self._numbers = [part.number for part in parts]
        self.full = float(sum(part.width for part in parts))

    def cost(self, widths: Ids) -> float:
        """Return how many heads are left when group ``k`` keeps ``widths[k]`` of them."""
        return float(widths[self._numbers].sum())


def head_groups(program: Program) -> set[str]:
    """Return the names of the groups whose channels are whole heads.

    Queries, keys, values and the result of an attention all have the heads. In a fused attention the heads are leading
    dimensions. In an attention that is written out, they are those of the product of a softmax and another activation.
    """
    found: set[int] = set()
    for node, (operator, call) in calls(program).items():
        if operator.attention == "whole":
            labels = program.coupling.nodes.get(node.name, ())
            found |= _groups_of(program, labels[:-2])
        elif operator.attention == "product" and any(_is_softmax(value, program) for value in call.tensors()):
            found |= _groups_of_product(program, call)
    return {program.groups[number].name for number in found}


def _groups_of_product(program: Program, call: Call) -> set[int]:
    """Return the groups that both factors of a product and its result hold."""
    values = [call.node, *(value for value in call.tensors() if isinstance(value, fx.Node))]
    held = [_groups_of(program, program.coupling.nodes.get(value.name, ())) for value in values]
    return set.intersection(*held) if len(held) == 3 else set()


def _groups_of(program: Program, labels: Any) -> set[int]:
    """Return the numbers of the groups that some dimensions hold."""
    numbers = [program.coupling.group_of[ids] for ids in labelled(labels)]
    return {int(n) for n in np.unique(np.concatenate(numbers)) if n >= 0} if numbers else set()


def _is_softmax(value: Any, program: Program) -> bool:
    """Whether a value is the result of a softmax, possibly after dropout, a cast or a change of shape."""
    known = calls(program)
    while isinstance(value, fx.Node):
        if value in known and known[value][0].attention == "softmax":
            return True
        reads = [n for n in value.all_input_nodes if n.op != "get_attr"]
        if value.op == "placeholder" or len(reads) != 1 or len(value.all_input_nodes) != 1:
            return False
        value = reads[0]
    return False


def _nothing(program: Program, structure: str) -> str:
    if structure != HEADS:
        return "expected channels that can be removed; program.explain() says what is frozen"
    if program.facts.attention != WHOLE_HEADS:
        return (
            f"expected a program whose attentions lose whole heads for structure='heads', got one traced with "
            f"attention={program.facts.attention!r}; trace the model with attention='heads'"
        )
    return (
        "expected heads of attentions that can be removed for structure='heads', got a program without any; "
        "program.explain() says what is frozen; structure='filters' takes channels of any kind"
    )
