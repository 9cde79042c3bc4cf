"""The heads of attentions: which groups hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from swdc.ir.call import Call
from swdc.ir.groups import labelled
from swdc.ir.program import Program
from swdc.ir.trace_options import HEADS as WHOLE_HEADS
from swdc.ops import calls

HEADS = "heads"
"""The structure of plans and methods that take whole heads of attentions, and nothing else."""


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


def no_heads(program: Program) -> str:
    """Return the message that no group of a program holds heads, with the reason."""
    if program.facts.attention != WHOLE_HEADS:
        return (
            f"expected a program whose attentions lose whole heads for structure='heads', got one traced with "
            f"attention={program.facts.attention!r}; trace the model with attention='heads'"
        )
    return (
        "expected heads of attentions that can be removed for structure='heads', got a program without any; "
        "program.explain() says what is frozen"
    )
