"""Parameters that only scale values, and those that shift what was scaled: gains and shifts of norms, and their like.

They are found by what a graph does with them, whoever wrote it. The graph may be a program, or python code that
``torch.fx`` has traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from swdc.ir.graph import SHAPE
from swdc.ops.base import lookup, name_of
from swdc.ops.offset_gains import FACTORS, PASSING

_SUMS, _ADDED = frozenset({"sum", "mean"}), frozenset({"add", "iadd"})
_SAME_SHAPE = frozenset("alias contiguous to _to_copy type_as".split())
_FACTS = frozenset("shape dtype device ndim size dim numel sym_size".split())
_UNKNOWN = 0
"""Stands for a dimension, counted from the end, of which nothing is known."""


def gains_and_shifts(graph: fx.Graph, shapes: Mapping[str, torch.Size]) -> set[str]:
    """Return the names of the parameters in ``shapes`` that are gains, or shifts of a gain's product.

    A gain has at most one dimension of more than one index. All that reads it, apart from ``1 + gain`` and views, is a
    product with a value that depends on an input, or a norm. A product that is summed along the gain's dimension is
    that of a weight. A shift has as many numbers as a gain, and is only added to products of gains.
    """
    reads: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target) in shapes:
            reads.setdefault(str(node.target), []).append(node)
    lines = {name: nodes for name, nodes in reads.items() if sum(size > 1 for size in shapes[name]) <= 1}
    found = _Reads(graph)
    gains = {name for name, nodes in lines.items() if all(found.scales(n, _dim(shapes[name])) for n in nodes)}
    sizes = {shapes[name].numel() for name in gains}
    shifts = {
        name
        for name, nodes in lines.items()
        if name not in gains and shapes[name].numel() in sizes and all(map(found.shifts, nodes))
    }
    return gains | shifts


def _dim(shape: torch.Size) -> int | None:
    """Return the dimension of more than one index, counted from the end; ``None`` if there is none."""
    return next((dim - len(shape) for dim, size in enumerate(shape) if size > 1), None)


class _Reads:
    """What the nodes of a graph do with a parameter."""

    def __init__(self, graph: fx.Graph) -> None:
        self._fed: set[fx.Node] = set()
        for node in graph.nodes:
            if node.op in ("placeholder", "call_module") or not self._fed.isdisjoint(node.all_input_nodes):
                self._fed.add(node)
        self._products: set[fx.Node] = set()

    def scales(self, value: fx.Node, dim: int | None) -> bool:
        """Whether a value is a factor, or belongs to a norm, wherever it is read; ``dim`` is where it has indices."""
        return bool(users := _readers(value)) and all(self._is_scaled_by(user, value, dim) for user in users)

    def shifts(self, value: fx.Node) -> bool:
        """Whether a value is only added to products of gains, or belongs to a norm."""
        return bool(users := _readers(value)) and all(self._is_shifted_by(user, value) for user in users)

    def _is_scaled_by(self, user: fx.Node, value: fx.Node, dim: int | None) -> bool:
        kind, first, others = _parts(user, value)
        if kind in PASSING:
            return first is value and self.scales(user, dim if kind in _SAME_SHAPE else _moved(user, dim))
        if kind in _ADDED and all(isinstance(other, int | float) for other in others):
            return self.scales(user, dim)
        if _is_norm(user):
            return first is not value
        is_factor = kind in FACTORS or (kind == "addcmul" and first is not value)
        if not is_factor or not any(other in self._fed for other in others) or self._is_summed(user, dim):
            return False
        self._products.add(user)
        return True

    def _is_shifted_by(self, user: fx.Node, value: fx.Node) -> bool:
        kind, first, others = _parts(user, value)
        if kind in PASSING:
            return first is value and self.shifts(user)
        if _is_norm(user):
            return first is not value
        if kind == "addcmul":
            return first is value and user in self._products
        return kind in _ADDED and any(other in self._products for other in others)

    def _is_summed(self, product: fx.Node, dim: int | None) -> bool:
        """Whether a product is summed along a dimension, counted from the end; yes if that cannot be told."""
        if dim is None:
            return False
        for user in product.users:
            if kind_of(user) in PASSING and self._is_summed(user, dim if kind_of(user) in _SAME_SHAPE else _UNKNOWN):
                return True
            if kind_of(user) in _SUMS and (dim == _UNKNOWN or dim in _summed(user, product, dim)):
                return True
        return False


def _readers(value: fx.Node) -> list[fx.Node]:
    """Return the nodes that read the numbers of a value, not only its shape or its type."""
    return [
        user
        for user in value.users
        if kind_of(user) not in _FACTS and not (kind_of(user) == "getattr" and user.args[1] in _FACTS)
    ]


def _parts(user: fx.Node, value: fx.Node) -> tuple[str, object, list[object]]:
    """Return what a node is called, its first argument, and all that is not a value."""
    others: list[object] = [given for given in (*user.args, *user.kwargs.values()) if given is not value]
    return kind_of(user), user.args[0] if user.args else None, others


def _moved(view: fx.Node, dim: int | None) -> int | None:
    """Return where the dimension of a gain lies in a view of it."""
    shape = view.meta.get(SHAPE)
    return dim if dim is None else _UNKNOWN if shape is None else _dim(torch.Size(shape))


def _summed(user: fx.Node, product: fx.Node, dim: int) -> set[int]:
    """Return the dimensions that a sum or a mean runs over, counted from the end."""
    given: Any = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim", user.kwargs.get("axis"))
    dims = [given] if isinstance(given, int) else given
    shape = product.meta.get(SHAPE)
    if not isinstance(dims, list | tuple) or not dims:
        return {dim}
    if shape is None:
        return {dim} if any(d >= 0 for d in dims) else {*dims}
    return {d if d < 0 else d - len(shape) for d in dims}


def kind_of(node: fx.Node) -> str:
    """Return what a node is called: ``mul`` for the overload, torch's function, the method and python's operator."""
    if node.op == "call_method":
        name = str(node.target)
    elif node.op != "call_function":
        return ""
    elif isinstance(node.target, torch._ops.OpOverload):
        name = name_of(node.target).split(".")[1]
    else:
        name = str(getattr(node.target, "__name__", ""))
    return name if name.startswith("_") else name.rstrip("_")


def _is_norm(node: fx.Node) -> bool:
    """Whether a call normalises: an overload, or a function of torch of the same name."""
    return node.op == "call_function" and lookup(f"aten.{kind_of(node)}.default").is_norm
