"""Residual sums, and the batch norms that decide over their channels (section 3.3 of Tessier et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from swdc.ir.call import Call
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.trace_options import FREE
from swdc.ops.addition import CHANNELS
from swdc.ops.base import NO_LEAF, OPERATORS, Leaf, calls, leaf_of


def residual_sums(program: Program) -> list[fx.Node]:
    """Return the nodes that add two feature maps of one shape (N, C, ...), in the order of the graph."""
    return [node for node, (operator, call) in calls(program).items() if operator.adds and _adds_maps(call)]


def sums(program: Program) -> list[fx.Node]:
    """Return the nodes that add anything: feature maps, parameters or numbers, in the order of the graph."""
    return [node for node, (operator, _) in calls(program).items() if operator.adds]


def is_batchnorm(node: fx.Node, program: Program) -> bool:
    """Whether a node calls a batch norm, which decides over every channel that it reads, with or without a gain.

    What the norm loses is not read. But a norm without gain and shift has nothing to score or to pull on, so
    ``deciding_norms`` leaves the decision to the norms before it.
    """
    leaf = _leaf(node, program)
    return leaf.is_norm and leaf.writes_channels


def free_operands(program: Program) -> Mapping[fx.Node, tuple[fx.Node, ...]]:
    """Return, for each residual sum that a batch norm decides over, its operands that are free.

    A batch norm decides over a sum if it is the only reader of the sum, or of the last of a chain of sums. The channels
    that the norm loses are not read, whatever the operands hold. So an operand with other readers (the shortcut) keeps
    its own channels, those of the batch norm before it. An operand that only this sum reads loses the channels of the
    sum. Without the policy ``free`` no operand is free.
    """
    if program.facts.policy != FREE:
        return {}
    return program.derived("free operands", lambda: _free_operands(program), OPERATORS.version)


def deciding_norms(program: Program) -> list[str]:
    """Return the paths of the batch norms that no later batch norm overrules, in the order of the graph.

    The gamma criterion reads their gains, and SWD pulls on them. If only sums read a batch norm, and only other batch
    norms read these sums, the norm decides nothing: the norm after the sum does.
    """
    adding = set(sums(program))
    norms = [node for node in program.graph.nodes if _has_gain(node, program)]
    return list(dict.fromkeys(str(node.target) for node in norms if not _is_overruled(node, program, adding)))


def _adds_maps(call: Call) -> bool:
    maps = {value for value in call.tensors() if isinstance(value, fx.Node)}
    shape = call.shape
    if len(maps) != 2 or any(value.meta.get(SHAPE) != shape for value in maps):
        return False
    return len(shape) > CHANNELS and isinstance(shape[CHANNELS], int)


def _free_operands(program: Program) -> dict[fx.Node, tuple[fx.Node, ...]]:
    decided: set[fx.Node] = set()
    found: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in reversed(residual_sums(program)):
        if len(node.users) != 1:
            continue
        (user,) = node.users
        if user in decided or is_batchnorm(user, program):
            decided.add(node)
            free = tuple(operand for operand in node.all_input_nodes if _is_shared(operand, program))
            if free:
                found[node] = free
    return found


def _is_shared(value: fx.Node, program: Program) -> bool:
    """Whether a value, or a value before it with no channel-writing layer in between, has another reader."""
    while len(value.users) == 1:
        if value.op == "get_attr" or _leaf(value, program).writes_channels or len(value.all_input_nodes) != 1:
            return False
        (value,) = value.all_input_nodes
    return True


def _is_overruled(node: fx.Node, program: Program, adding: set[fx.Node]) -> bool:
    if not node.users or not adding.issuperset(node.users):
        return False
    return all(
        all(_has_gain(user, program) for user in total.users) or _is_overruled(total, program, adding)
        for total in node.users
    )


def _has_gain(node: fx.Node, program: Program) -> bool:
    if not is_batchnorm(node, program):
        return False
    module: Any = program.get_submodule(str(node.target))
    return module.weight is not None and module.bias is not None


def _leaf(node: fx.Node, program: Program) -> Leaf:
    return leaf_of(program.get_submodule(str(node.target))) if node.op == "call_module" else NO_LEAF
