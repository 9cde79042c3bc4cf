"""What Python code reads from tensors (a number, whether two are equal, how much is found), and checks of that."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from swdc.ops.base import name_of
from swdc.ops.in_place import operator_of

_aten = torch.ops.aten
_NUMBERS = ("aten.item.default", "aten._local_scalar_dense.default", "aten.is_nonzero.default")
_TWO = ("aten.equal.default", "aten.allclose.default")

ASSUMED = {torch.any: True, torch.Tensor.any: True, torch.all: False, torch.Tensor.all: False}
"""What summarises a condition to one truth value, with the answer that makes code do more rather than less."""
ASKED = (torch.Tensor.__bool__, torch.Tensor.item)
"""What gives Python a truth value."""


class Sizes(tuple[int, ...]):
    """The sizes of a result that depend on values: how many different numbers there are, say."""

    of: int = 0
    """Which of several results has them."""


def read_by(target: Any, args: Sequence[Any], result: Any) -> Any:
    """Return what code reads from a call on real tensors: a number, or how many places each condition finds.

    It is ``None`` if nothing is read.
    """
    operator = operator_of(target)
    if name_of(target) in (*_NUMBERS, *_TWO):
        return result
    if operator.finds and operator.by_condition:
        return tuple(int(torch.count_nonzero(condition)) for condition in operator.conditions(args))
    depends = torch.Tag.dynamic_output_shape in getattr(target, "tags", ()) or operator.measured is not None
    of = operator.measured or 0
    measured = result[of] if isinstance(result, list | tuple) and result else result
    if not depends or not isinstance(measured, torch.Tensor):
        return None
    found = Sizes(measured.shape)
    found.of = of
    return found


def as_text(read: Any) -> str:
    """Return what was read, in words."""
    if isinstance(read, Sizes):
        return f"a result of shape {tuple(read)}"
    return f"{' and '.join(map(str, read))} found places" if isinstance(read, tuple) else repr(read)


def expect_read(node: fx.Node, read: Any, text: str) -> None:
    """Let a graph of capture fail with a text where a call reads something else than ``read``.

    Whole numbers, truth values and counts have to be equal. A number with a fraction may differ by the square root of
    the rounding unit of its type, relative to it; zero, infinity and NaN have to be the same.
    """
    with node.graph.inserting_before(node.next):
        for condition in _conditions(node, read):
            _called(node, _aten._assert_async.msg, condition, text)


def _conditions(node: fx.Node, read: Any) -> list[fx.Node]:
    """Return new nodes that have to be true."""
    x: Any = node.args[0]
    if isinstance(read, Sizes):
        sizes = [_called(node, _aten.sym_size.int, node, dim) for dim in range(len(read))]
        numbers = [_called(node, _aten.scalar_tensor.default, size) for size in sizes]
        return [_called(node, _aten.eq.Scalar, number, size) for number, size in zip(numbers, read, strict=True)]
    if isinstance(read, tuple):
        found = [_called(node, _aten.count_nonzero.default, c) for c in operator_of(node.target).conditions(node.args)]
        return [_called(node, _aten.eq.Scalar, count, number) for count, number in zip(found, read, strict=True)]
    if name_of(node.target) in _TWO:
        return _both(node, read)
    if isinstance(read, bool):
        return [_called(node, _aten.ne.Scalar if read else _aten.eq.Scalar, x, 0)]
    if isinstance(read, float) and math.isnan(read):
        return [_called(node, _aten.ne.Tensor, x, x)]
    if isinstance(read, complex | float) and cmath.isfinite(read):
        apart = _called(node, _aten.abs.default, _called(node, _aten.sub.Tensor, x, read))
        return [_called(node, _aten.le.Scalar, apart, abs(read) * torch.finfo(x.meta["val"].dtype).eps ** 0.5)]
    return [_called(node, _aten.eq.Scalar, x, read)]


def _both(node: fx.Node, alike: bool) -> list[fx.Node]:
    """Return what is true where two tensors are alike as they were; nothing if they are not of one shape."""
    one, other, *rest = node.args
    if name_of(node.target) != "aten.equal.default":
        compared = _called(node, _aten.isclose.default, one, other, *rest, **node.kwargs)
    elif one.meta["val"].shape == other.meta["val"].shape:  # type: ignore[union-attr]
        compared = _called(node, _aten.eq.Tensor, one, other)
    else:
        return []
    every = _called(node, _aten.all.default, compared)
    return [every if alike else _called(node, _aten.logical_not.default, every)]


def _called(node: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """Return a new call at the place of a node, with its line and module."""
    made = node.graph.call_function(target, args, kwargs)
    known = fx.node.map_arg((args, kwargs), _without_values)
    made.meta = {**node.meta, "val": target(*known[0], **known[1]) if target is not _aten._assert_async.msg else None}
    return made


def _without_values(node: fx.Node) -> Any:
    value = node.meta["val"]
    if isinstance(value, int):
        return value
    return torch.empty(tuple(value.shape), dtype=value.dtype, device="meta")
