"""Checks of the rules that users write: a wrong rule is named with its operator, before it can do harm.

The rules of swdc's own operators are tested, and pass without a check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx

from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.errors import RuleError, SwdcError, brief
from swdc.ir.call import Call, source_of
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.ops.base import Operator, calls

_OF_SWDC = "swdc.ops."
_REPLACEMENT = "operator"


def is_foreign(operator: Operator) -> bool:
    """Whether the rule of an operator comes from outside of swdc."""
    return not type(operator).__module__.startswith(_OF_SWDC)


def couple_and_fold(operator: Operator, call: Call, channels: Channels) -> None:
    """Call the rules that label the result of a call; ``RuleError`` if a rule of the user's is wrong on its face."""
    if not is_foreign(operator):
        operator.couple(call, channels)
        operator.fold(call, channels)
        return
    with _named(operator, call, "couple"):
        operator.couple(call, channels)
        _check_labels(channels.nodes.get(call.node), call.node.meta.get(SHAPE), channels)
    with _named(operator, call, "fold"):
        operator.fold(call, channels)
        _check_dead(channels.dead(call.node), call.node.meta.get(SHAPE))


def resized(operator: Operator, call: Call, kept: Kept) -> Mapping[str, Any]:
    """Return the arguments of a call that change with its sizes; ``RuleError`` if a rule of the user's is wrong."""
    if not is_foreign(operator):
        return operator.resize(call, kept)
    with _named(operator, call, "resize"):
        changes: Any = operator.resize(call, kept)
        if not isinstance(changes, Mapping):
            raise TypeError(f"it returns {type(changes).__name__} and no mapping of arguments")
        unknown = [name for name in changes if name != _REPLACEMENT and name not in call.arguments]
        if unknown:
            raise ValueError(f"it returns {unknown[0]!r}, but the arguments are {', '.join(call.arguments)}")
    return changes


def check_slim_calls(dense: Program, slim: Program) -> None:
    """Run the calls under rules of the user's at their new sizes; ``RuleError`` for one that cannot, or that differs.

    A call that does not run at its old sizes either (on made-up values) says nothing about its rule.
    """
    foreign = {node.name: node for node, (operator, _) in calls(dense).items() if is_foreign(operator)}
    for node in slim.graph.nodes:
        before = foreign.get(node.name)
        if before is None or before.target != node.target:
            continue
        operator, call = calls(dense)[before]
        expected = _shapes(node, slim)
        try:
            _ran(before, dense)
        except Exception:  # the operator is the user's, and may refuse made-up values
            continue
        with _named(operator, call, "couple or resize"):
            found = _ran(node, slim)
            if found != expected:
                raise ValueError(f"after the cut it returns {found}, where the rules say {expected}")


@contextmanager
def _named(operator: Operator, call: Call, rule: str) -> Iterator[None]:
    try:
        yield
    except SwdcError:
        raise
    except Exception as error:  # rules are the user's code
        kind, source = type(operator), source_of(call.node)
        raise RuleError(
            f"expected a rule that describes {call.operator}, got {kind.__module__}.{kind.__qualname__}, whose "
            f"{rule} does not fit the call {call.node.name}{f' at {source}' if source else ''}: {brief(error)}; "
            f"correct the class, or freeze what it does not describe with channels.freeze_value"
        ) from error


def _check_labels(labels: Any, shape: Any, channels: Channels) -> None:
    """Raise ``ValueError`` unless there are labels for each dimension of a result, one for each index."""
    if labels is None or shape is None:
        return
    if shape and isinstance(shape[0], tuple):
        if len(labels) != len(shape):
            raise ValueError(f"it labels {len(labels)} results of {len(shape)}")
        for one, own in zip(labels, shape, strict=True):
            _check_labels(one, own, channels)
        return
    if len(labels) != len(shape):
        raise ValueError(f"it labels {len(labels)} dimensions of a result that has {len(shape)}")
    for dim, (ids, size) in enumerate(zip(labels, shape, strict=True)):
        if ids is None:
            continue
        if not isinstance(ids, np.ndarray):
            raise TypeError(f"it labels dimension {dim} with {type(ids).__name__} and no array of labels")
        if isinstance(size, int) and len(ids) != size:
            raise ValueError(f"it gives dimension {dim}, of size {size}, {len(ids)} labels")


def _check_dead(dead: Sequence[Any], shape: Any) -> None:
    """Raise ``ValueError`` unless there is a dead value for each dimension of a result."""
    if shape is None:
        return
    if shape and isinstance(shape[0], tuple) and len(dead) == len(shape):
        for one, own in zip(dead, shape, strict=True):
            _check_dead([one] * len(own) if isinstance(one, float) else one, own)
    elif len(dead) != len(shape):
        raise ValueError(f"it gives {len(dead)} dead values for a result of {len(shape)} dimensions")


def _shapes(node: fx.Node, program: Program) -> Any:
    """Return the shape of a node's result, or those of several results, at the sizes of the example."""
    shape = node.meta[SHAPE]
    if shape and isinstance(shape[0], tuple):
        return [evaluate(one, program.facts.symbols) for one in shape]
    return evaluate(shape, program.facts.symbols)


@torch.no_grad()
def _ran(node: fx.Node, program: Program) -> Any:
    """Return the shape, or shapes, of what a call returns on made-up values at the sizes of the example."""
    tensors = program.tensors
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))

    def value(argument: fx.Node) -> Any:
        if argument.op == "get_attr":
            return tensors[str(argument.target)]
        return _made(_shapes(argument, program), argument.meta.get(DTYPE), device)

    args: Any = fx.node.map_arg(node.args, value)
    kwargs: Any = fx.node.map_arg(node.kwargs, value)
    target: Any = program.leaves[str(node.target)] if node.op == "call_module" else node.target
    result = target(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        return tuple(result.shape)
    return [tuple(each.shape) for each in result]


def _made(shape: Any, dtype: Any, device: torch.device) -> Any:
    if isinstance(shape, Sequence) and shape and not isinstance(shape[0], int):
        kinds = dtype if isinstance(dtype, Sequence) else [dtype] * len(shape)
        return [_made(one, kind, device) for one, kind in zip(shape, kinds, strict=True)]
    return torch.zeros(shape, dtype=dtype, device=device)
