"""The groups of a program that are heads of attentions."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from swdc.ir.call import Call
from swdc.ir.groups import labelled
from swdc.ir.program import Program
from swdc.ops import calls

_ATTENTION = "aten.scaled_dot_product_attention.default"
_SOFTMAX = ("aten.softmax.int", "aten._softmax.default")
_PRODUCTS = ("aten.matmul.default", "aten.bmm.default", "aten.einsum.default")


def head_groups(program: Program) -> set[str]:
    """Return the names of the groups whose channels are whole heads.

    Heads are what queries, keys, values and the result of an attention all have: the leading dimensions of a fused
    attention, and of a product of a softmax with another activation where it is written out.
    """
    found: set[int] = set()
    for node, (_, call) in calls(program).items():
        if call.operator == _ATTENTION:
            labels = program.coupling.nodes.get(node.name, ())
            found |= _groups(program, labels[:-2])
        elif call.operator in _PRODUCTS and any(_is_softmax(value, program) for value in call.tensors()):
            found |= _of_product(program, call)
    return {program.groups[number].name for number in found}


def _of_product(program: Program, call: Call) -> set[int]:
    """Return the groups that both factors of a product and its result hold."""
    values = [call.node, *(value for value in call.tensors() if isinstance(value, fx.Node))]
    held = [_groups(program, program.coupling.nodes.get(value.name, ())) for value in values]
    return set.intersection(*held) if len(held) == 3 else set()


def _groups(program: Program, labels: Any) -> set[int]:
    """Return the numbers of the groups that some dimensions hold."""
    numbers = [program.coupling.group_of[ids] for ids in labelled(labels)]
    return {int(n) for n in np.unique(np.concatenate(numbers)) if n >= 0} if numbers else set()


def _is_softmax(value: Any, program: Program) -> bool:
    """Whether a value is the result of a softmax, or what dropout, a cast or a change of shape makes of it."""
    while isinstance(value, fx.Node):
        if str(value.target) in _SOFTMAX:
            return True
        reads = [n for n in value.all_input_nodes if n.op != "get_attr"]
        if value.op == "placeholder" or len(reads) != 1 or len(value.all_input_nodes) != 1:
            return False
        value = reads[0]
    return False
