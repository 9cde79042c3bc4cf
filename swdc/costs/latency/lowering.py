"""Lists the layers that onnxruntime runs for a program; sizes are products of the dimensions of its values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from swdc.ir.call import Call
from swdc.ir.program import Program
from swdc.ops import Operator, calls
from swdc.ops.call_cost import ShapeOf, Use
from swdc.ops.in_place import operator_of


def uses(program: Program, shape_of: ShapeOf) -> list[Use]:
    """Return the layers that onnxruntime runs for one call of a program, in order.

    Batch norms, sums and activations that go into a convolution cost nothing, nor do views. Convolutions, dense
    layers, products and pools stand for themselves; all else costs as much as an operator of its kind (elementwise,
    softmax, norm, transpose) on the largest tensor that it reads or writes.
    """
    known = _operators(program)
    absorbed = _absorbed(known)
    return [
        use
        for node, (operator, call) in known.items()
        if node not in absorbed
        for use in operator.lower(call, shape_of)
    ]


def _operators(program: Program) -> dict[fx.Node, tuple[Operator, Call]]:
    """Return the operators on tensors that nodes call; an in-place operator is timed as its out-of-place twin."""
    found: dict[fx.Node, tuple[Operator, Call]] = {}
    for node, (operator, call) in calls(program).items():
        if node.op == "call_module":
            found[node] = operator, call
        elif isinstance(node.target, torch._ops.OpOverload):
            found[node] = operator_of(node.target), call
    return found


def _absorbed(known: Mapping[fx.Node, tuple[Operator, Call]]) -> set[fx.Node]:
    """Return the nodes that are computed within the convolution or dense layer before them."""
    ends: set[fx.Node] = set()  # convolutions, and nodes that one has absorbed: these can absorb the next node
    absorbed: set[fx.Node] = set()
    for node, (operator, call) in known.items():
        if operator.absorbs:
            ends.add(node)
        elif operator.is_absorbed(call) and any(n in ends and len(n.users) == 1 for n in _read(call)):
            absorbed.add(node)
            ends.add(node)
    return absorbed


def _read(call: Call) -> list[fx.Node]:
    return [value for value in call.tensors() if isinstance(value, fx.Node)]
