"""Residual sums whose two sides keep channels of their own, as the experiments of Tessier et al. (2022) do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from swdc.ir.graph import SHAPE
from swdc.ir.options import FREE
from swdc.ir.program import Program

SUM = "aten.add.Tensor"
CHANNELS = 1
"""The dimension of a feature map that holds its channels."""

_WRITERS = (_BatchNorm, nn.Linear, nn.modules.conv._ConvNd)


def free_operands(program: Program) -> Mapping[fx.Node, tuple[fx.Node, ...]]:
    """Return, for each sum of feature maps (N, C, ...) that a batch norm decides over, its operands that are free.

    A sum is decided by the batch norm that alone reads it, or reads the last of a chain of sums. The channels that it
    loses are not read, whatever comes in. So the operand that others read as well (the shortcut) keeps channels of its
    own, those of the batch norm before it; what only this sum reads loses the channels of the sum. Without the policy
    ``free`` there are none.
    """
    if program.facts.policy != FREE:
        return {}
    found: Mapping[fx.Node, tuple[fx.Node, ...]] = program.derived("free operands", lambda: _free_operands(program))
    return found


def _free_operands(program: Program) -> dict[fx.Node, tuple[fx.Node, ...]]:
    decided: set[fx.Node] = set()
    found: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in reversed(program.graph.nodes):
        if not _is_sum_of_maps(node) or len(node.users) != 1:
            continue
        (user,) = node.users
        if user in decided or _leaf(user, program, (_BatchNorm,)):
            decided.add(node)
            free = tuple(operand for operand in node.all_input_nodes if _is_shared(operand, program))
            if free:
                found[node] = free
    return found


def _is_sum_of_maps(node: fx.Node) -> bool:
    if str(node.target) != SUM or len(node.all_input_nodes) != 2:
        return False
    shapes: list[Any] = [n.meta.get(SHAPE) for n in (node, *node.all_input_nodes)]
    return all(shape == shapes[0] for shape in shapes) and len(shapes[0]) > 1 and isinstance(shapes[0][CHANNELS], int)


def _is_shared(value: fx.Node, program: Program) -> bool:
    """Whether something else reads a value, or what it is made of without a layer that writes channels in between."""
    while len(value.users) == 1:
        if value.op == "get_attr" or _leaf(value, program, _WRITERS) or len(value.all_input_nodes) != 1:
            return False
        (value,) = value.all_input_nodes
    return True


def _leaf(node: fx.Node, program: Program, kinds: tuple[type[nn.Module], ...]) -> bool:
    return node.op == "call_module" and isinstance(program.get_submodule(str(node.target)), kinds)
