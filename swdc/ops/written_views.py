"""Writes into views without side effects: what a view looks at, after something was written over the view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from swdc.ir.call import bind_arguments
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ops.base import name_of
from swdc.ops.in_place import RETURN_THEIR_INPUT
from swdc.ops.items import is_item

_ATEN = torch.ops.aten
_Arguments = dict[str, Any]
_Written = Callable[[_Arguments, fx.Node, fx.Node], fx.Node]
"""Returns the new node, given the arguments of the view, the whole, and the part that was written over the view."""


def source_of_view(view: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Return the value that a view looks at, and the call that makes the view: another node for one of several."""
    maker = view.all_input_nodes[0] if is_item(view) else view
    return maker.all_input_nodes[0], maker


def can_be_written(view: fx.Node) -> bool:
    """Whether ``written_whole`` knows how to write over a view."""
    _, maker = source_of_view(view)
    name = name_of(maker.target)
    if maker is view:
        return name in _VIEWS
    return name in _ITEMS or (name in _PARTS and all(isinstance(size, int) for size in _sizes(view, maker)))


def may_copy(view: fx.Node) -> bool:
    """Whether a call that makes a view may return a copy instead, or its input itself."""
    return str(view.target) in _MAY_COPY


def written_whole(view: fx.Node, arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    """Return a new node for ``whole`` after ``part`` was written over a view of it.

    ``view`` is a captured node. ``arguments`` are those of the call that makes it, by name.
    """
    _, maker = source_of_view(view)
    name = name_of(maker.target)
    if maker is view:
        return _VIEWS[name](arguments, whole, part)
    if name in _ITEMS:
        return _select({**arguments, "index": view.args[1]}, whole, part)
    *before, own = _sizes(view, maker)
    return _slice({**arguments, "start": sum(before), "end": sum(before) + own, "step": 1}, whole, part)


def _sizes(view: fx.Node, maker: fx.Node) -> list[Any]:
    """Return the sizes of several parts up to one of them, along the dimension that is taken apart."""
    index: Any = view.args[1]
    dim = bind_arguments(maker.target, maker.args, maker.kwargs)["dim"]
    return [value.shape[dim] for value in maker.meta["val"][: index + 1]]


def _call(target: Any, *args: Any) -> fx.Node:
    node: fx.Node = args[0]
    return node.graph.call_function(target, args)


def _slice(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    dim, start, end, step = (arguments[name] for name in ("dim", "start", "end", "step"))
    if _is_complex(whole) and step == 1 and not isinstance(start, fx.Node):
        return _joined(dim, start or 0, end, whole, part)
    return _call(_ATEN.slice_scatter.default, whole, part, dim, start, end, step)


def _is_complex(value: fx.Node) -> bool:
    """Whether a value is complex: torch has no gradients of writes over its parts."""
    dtype: torch.dtype | None = value.meta.get(DTYPE)
    return dtype is not None and dtype.is_complex


def _joined(dim: int, start: int, end: Any, whole: fx.Node, part: fx.Node) -> fx.Node:
    """Return a new node for ``part`` between what the whole has before ``start`` and from ``end`` on."""
    size, taken = whole.meta[SHAPE][dim], part.meta[SHAPE][dim]
    first = start if start >= 0 else size + start
    rest = size - taken - first
    before = None if first == 0 else _cut(whole, dim, 0, start, first)
    after = None if rest == 0 else _cut(whole, dim, end, None, rest)
    pieces = [piece for piece in (before, part, after) if piece is not None]
    return whole.graph.call_function(_ATEN.cat.default, (pieces, dim))


def _cut(whole: fx.Node, dim: int, start: Any, end: Any, size: Any) -> fx.Node:
    made = _call(_ATEN.slice.Tensor, whole, dim, start, end)
    shape = list(whole.meta[SHAPE])
    shape[dim] = size
    made.meta.update({**whole.meta, SHAPE: tuple(shape)})
    return made


def _select(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    if _is_complex(whole) and isinstance(arguments["index"], int):
        dim = arguments["dim"] % len(whole.meta[SHAPE])
        one = _call(_ATEN.unsqueeze.default, part, dim)
        shape = part.meta[SHAPE]
        one.meta.update({**part.meta, SHAPE: (*shape[:dim], 1, *shape[dim:])})
        return _joined(dim, arguments["index"], arguments["index"] + 1, whole, one)
    return _call(_ATEN.select_scatter.default, whole, part, arguments["dim"], arguments["index"])


def _reshaped(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    return _call(_ATEN.reshape_as.default, part, whole)


def _given(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    return part


def _exchanged(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    _, one, other = arguments.values()
    return _call(_ATEN.transpose.int, part, one, other)


def _turned(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    return _call(_ATEN.t.default, part)


def _permuted(arguments: _Arguments, whole: fx.Node, part: fx.Node) -> fx.Node:
    dims = [d % len(arguments["dims"]) for d in arguments["dims"]]
    return _call(_ATEN.permute.default, part, [dims.index(d) for d in range(len(dims))])


_RESHAPED = "view.default unflatten.int view_as.default squeeze.default squeeze.dim squeeze.dims unsqueeze.default"
_MAY_COPY = (
    *RETURN_THEIR_INPUT,
    *(f"aten.{name}" for name in "reshape.default reshape_as.default flatten.using_ints contiguous.default".split()),
    *(f"aten.to.{name}" for name in "dtype dtype_layout device other".split()),
)
_VIEWS: dict[str, _Written] = {
    "aten.slice.Tensor": _slice,
    "aten.select.int": _select,
    "aten.alias.default": _given,
    "aten.t.default": _turned,
    "aten.permute.default": _permuted,
    **dict.fromkeys(("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default"), _exchanged),
    **{f"aten.{name}": _reshaped for name in _RESHAPED.split()},
}
_PARTS = ("aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default")
"""Calls that return ranges of a dimension, which make up the whole."""
_ITEMS = ("aten.unbind.int",)
"""Calls that return every index of a dimension."""
