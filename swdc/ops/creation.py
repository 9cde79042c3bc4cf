"""Tensors that are made on the way, and the arithmetic of sizes and positions."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

import torch
from torch import fx

from swdc.channels.dead import UNKNOWN
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ops.base import OPERATORS, Operator, lookup, name_of, register
from swdc.ops.positions import each_result

_FILLED = (
    "zeros.default ones.default full.default empty.memory_format new_zeros.default new_ones.default "
    "new_full.default new_empty.default zeros_like.default ones_like.default full_like.default empty_like.default"
)


@register
class Creation(Operator):
    """A new tensor filled with one value. Its static dimensions may shrink with what is added to it."""

    names = tuple(f"aten.{name}" for name in _FILLED.split())
    _VALUES = {"zeros": 0.0, "ones": 1.0}  # noqa: RUF012

    def _like(self, call: Call) -> bool:
        return call.operator.endswith("_like.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Fresh labels for each static dimension; those of the model where it is made like another value."""
        if self._like(call):
            channels.set(call, channels.labels(call["self"]))
            return
        shape = call.shape
        channels.set(call, [channels.fresh(s) if isinstance(s, int) and s > 1 else None for s in shape])

    def fold(self, call: Call, channels: Channels) -> None:
        """The value that it is filled with."""
        kind = call.operator.split(".")[1].removeprefix("new_").removesuffix("_like")
        value = self._VALUES.get(kind, call.arguments.get("fill_value"))
        known = float(value) if isinstance(value, int | float) else UNKNOWN
        channels.set_dead(call, [known] * len(call.shape))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Sizes are what is left of each dimension."""
        if self._like(call):
            return {}
        return {"size": list(kept.resized(call.node, tuple(call["size"])))}


_POSITIONS = (
    "arange.default arange.start arange.start_step linspace.default linspace.Tensor_Tensor linspace.Tensor_Scalar "
    "linspace.Scalar_Tensor logspace.default eye.default eye.m tril_indices.default triu_indices.default "
    "meshgrid.default meshgrid.indexing scalar_tensor.default fft_fftfreq.default fft_rfftfreq.default "
    "hann_window.default hann_window.periodic hamming_window.default hamming_window.periodic "
    "rand.default randn.default randint.default randint.low randperm.default empty_strided.default "
    "rand_like.default randn_like.default randint_like.default randint_like.low_dtype bernoulli.default bernoulli.p "
    "bernoulli.Tensor normal.Tensor_float normal.float_Tensor normal.Tensor_Tensor new_empty_strided.default "
    "sym_numel.default sym_stride.int sym_stride.default sym_storage_offset.default"
)
_PYTHON = (
    "truediv pos eq ne lt le gt ge and_ or_ xor not_ inv invert lshift rshift abs "
    "index min max round floor ceil trunc sym_min sym_max sym_not sym_ite sym_sum sym_float sym_int sym_sqrt "
    "_sym_sqrt is_ is_not"
)


@register
class Positions(Operator):
    """Index arithmetic and random draws: what they look at is fixed, and the result holds no channels."""

    names: ClassVar[tuple[str, ...]] = (
        *(f"aten.{name}" for name in _POSITIONS.split()),
        *(f"operator.{name}" for name in _PYTHON.split()),
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the values that are looked at."""
        for value in call.tensors():
            if isinstance(value, Ref):
                channels.hold(value, range(len(channels.sizes(value))), call)
            else:
                channels.freeze_value(value, call.reason("counts positions, or draws at random for each"))
        channels.set(call, each_result(call, [None] * rank_of(call)))


@register
class Arithmetic(Positions):
    """Sums, products and their like, of sizes: exporters put these anywhere."""

    names = tuple(f"operator.{name}" for name in "add sub mul floordiv mod neg pow".split())


def rank_of(call: Call) -> int:
    """Return the number of dimensions of a call's result, or of each of its results."""
    shape: Any = call.shape or ()
    return len(shape[0]) if shape and isinstance(shape[0], tuple) else len(shape)


@register
class Size(Operator):
    """The size of a dimension, asked for at run time: that of the slim value is the one that is meant."""

    names = ("aten.sym_size.int", "aten.sym_size.default")
    timed_as = ""

    def couple(self, call: Call, channels: Channels) -> None:
        """Nothing is read but the size of positions: that of a dimension with channels is a literal."""
        channels.set(call, [])

    def asks_sizes(self, call: Call, value: fx.Node) -> bool:
        """It does."""
        return True


def size_of(value: fx.Node, dim: int) -> fx.Node:
    """Return a new node of the same graph that asks for the size of a dimension of ``value``."""
    return value.graph.call_function(torch.ops.aten.sym_size.int, (value, dim))


def sum_of(number: fx.Node, other: int) -> fx.Node:
    """Return a new node of the same graph with a number added."""
    return number.graph.call_function(operator.add, (number, other))


def product_of(number: fx.Node, other: int) -> fx.Node:
    """Return a new node of the same graph with a number multiplied."""
    return number.graph.call_function(operator.mul, (number, other))


def asked_size(node: fx.Node) -> tuple[fx.Node, int] | None:
    """Return the value, and its dimension, whose size a node asks for; ``None`` where it does something else."""
    if node.target is not torch.ops.aten.sym_size.int:
        return None
    value, dim = node.args
    assert isinstance(value, fx.Node)
    assert isinstance(dim, int)
    return value, dim


def computes_sizes(node: fx.Node) -> bool:
    """Whether a node asks for a size, or computes with sizes."""
    return node.op == "call_function" and isinstance(lookup(name_of(node.target)), Size | Arithmetic)


def function_of(name: str) -> Any:
    """Return the function of Python's ``operator`` module that a name of the table stands for; ``None`` if none."""
    module, _, function = name.partition(".")
    return getattr(operator, function, None) if module == "operator" and name in OPERATORS.operators else None
