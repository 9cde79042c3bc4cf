"""Calls in everyday operators, for exporters that do not know an operator."""

from __future__ import annotations

import torch
from torch import fx

from swdc.ir.plain_results import is_tensor
from swdc.ops.in_place import operator_of


def say_plainly(node: fx.Node) -> None:
    """Replace a call by a function of everyday operators, if its operator has one."""
    function = operator_of(node.target).plainly(node.target)
    if function is not None and isinstance(node.target, torch._ops.OpOverload):
        names = [argument.name for argument in node.target._schema.arguments]
        node.target, node.kwargs = function, {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        node.args = ()


def is_given_a_size(node: fx.Node) -> bool:
    """Whether a call is given a size, which torch.export would fix for some operators."""
    return node.op == "call_function" and not all(map(is_tensor, node.all_input_nodes))
