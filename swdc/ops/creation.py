"""Tensors created by the program, and the arithmetic of sizes and positions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import fx

from swdc.channels.dead_values import in_type, number
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.along_positions import each_result
from swdc.ops.base import OPERATORS, Operator, lookup, name_of, register
from swdc.ops.freezing import freeze_inputs
from swdc.ops.number_nodes import NUMBERS

_FILLED = (
    "zeros.default ones.default full.default empty.memory_format new_zeros.default new_ones.default "
    "new_full.default new_empty.default zeros_like.default ones_like.default full_like.default empty_like.default"
)


@register
class Creation(Operator):
    """A new tensor filled with one value. Its static dimensions may shrink with the values that it is used with.

    Memory that is not filled is written before a model reads it, so it counts as zeros.
    """

    names = tuple(f"aten.{name}" for name in _FILLED.split())
    creates = True
    _VALUES = {"zeros": 0.0, "ones": 1.0, "empty": 0.0}  # noqa: RUF012

    def _like(self, call: Call) -> bool:
        return call.operator.endswith("_like.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Set fresh labels for each static dimension, or those of the value that it is created like."""
        if self._like(call):
            channels.set(call, channels.labels(call["self"]))
            return
        shape = call.shape
        channels.set(call, [channels.fresh(s) if isinstance(s, int) and s > 1 else None for s in shape])

    def fold(self, call: Call, channels: Channels) -> None:
        """The dead value is the fill value."""
        kind = call.operator.split(".")[1].removeprefix("new_").removesuffix("_like")
        value = number(self._VALUES.get(kind, call.arguments.get("fill_value")))
        channels.set_dead(call, [in_type(value, channels.dtype(call.node))] * len(call.shape))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Sizes are those of the kept channels."""
        if self._like(call):
            return {}
        return {"size": list(kept.resized(call.node, tuple(call["size"])))}


_POSITIONS = (
    "arange.default arange.start arange.start_step linspace.Tensor_Tensor linspace.Tensor_Scalar "
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
    """Index arithmetic and random draws: the inputs are frozen, and the result holds no channels."""

    names: ClassVar[tuple[str, ...]] = (
        *(f"aten.{name}" for name in _POSITIONS.split()),
        *(f"operator.{name}" for name in _PYTHON.split()),
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze all inputs."""
        freeze_inputs(call, channels, "counts positions, or draws a random number for each")
        channels.set(call, each_result(call, [None] * rank_of(call)))


@register
class EvenlySpaced(Positions):
    """Numbers from one to another, which are coordinates of positions."""

    names = ("aten.linspace.default",)

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """As many as there are steps; torch's own code takes no symbol for their number."""
        return [[arguments["steps"]]]

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Exporters take no symbol for the number of steps."""
        return evenly_spaced


@contextmanager
def symbols_taken(call: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """Let ``torch.linspace`` take a symbol for the number of its steps.

    ``call`` is given the operator, its arguments and its options, and returns the result, or ``None`` if nothing but
    the size of the result matters.
    """
    plain = torch.linspace

    def linspace(start: Any, end: Any, steps: Any = None, **options: Any) -> Any:
        if not isinstance(steps, torch.SymInt):
            return plain(start, end, **({} if steps is None else {"steps": steps}), **options)
        result = call(torch.ops.aten.linspace.default, (start, end, steps), options)
        return torch.empty((steps,), **options) if result is None else result

    torch.linspace = linspace
    try:
        yield
    finally:
        torch.linspace = plain


def evenly_spaced(start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    """Compute the first half of the numbers from the start and the rest from the end, as torch does."""
    place = torch.arange(steps, **options).to(dtype or torch.get_default_dtype())
    step = (end - start) / torch.sym_max(steps - 1, 1)
    half = torch.sym_max(steps // 2, 1)  # a single number is the start
    return torch.where(place < half, start + place * step, end - (steps - 1 - place) * step)


@register
class Arithmetic(Positions):
    """Arithmetic of sizes, which exporters insert anywhere."""

    names = tuple(f"operator.{name}" for name in "add sub mul floordiv mod neg pow".split())


def rank_of(call: Call) -> int:
    """Return the number of dimensions of a call's result, or of each of its results."""
    shape: Any = call.shape or ()
    return len(shape[0]) if shape and isinstance(shape[0], tuple) else len(shape)


@register
class Size(Operator):
    """The size of a dimension, read at run time; in the slim program it is the size of the slim value."""

    names = ("aten.sym_size.int", "aten.sym_size.default")
    timed_as = ""

    def couple(self, call: Call, channels: Channels) -> None:
        """The result has no labels. Only sizes of positions are read: sizes of channel dimensions are literals."""
        channels.set(call, [])

    def asks_sizes(self, call: Call, value: fx.Node) -> bool:
        """Always true."""
        return True


def size_of(value: fx.Node, dim: int) -> fx.Node:
    """Return a new node of the same graph that asks for the size of a dimension of ``value``."""
    return value.graph.call_function(torch.ops.aten.sym_size.int, (value, dim))


def sum_of(number: fx.Node, other: int) -> fx.Node:
    """Return a new node of the same graph with a number added."""
    return number.graph.call_function(operator.add, (number, other))


def product_of(number: fx.Node, other: int | fx.Node) -> fx.Node:
    """Return a new node of the same graph that multiplies a number by another one."""
    return number.graph.call_function(operator.mul, (number, other))


def asked_size(node: fx.Node) -> tuple[fx.Node, int] | None:
    """Return the value and the dimension whose size a node reads; ``None`` if the node does something else."""
    if node.target is not torch.ops.aten.sym_size.int:
        return None
    value, dim = node.args
    assert isinstance(value, fx.Node)
    assert isinstance(dim, int)
    return value, dim


def computes_sizes(node: fx.Node) -> bool:
    """Whether a node reads a size, or computes with sizes."""
    return node.op == "call_function" and isinstance(lookup(name_of(node.target)), Size | Arithmetic)


def function_of(name: str) -> Any:
    """Return the function of numbers with a name of the table, or ``None`` if there is none."""
    module, _, function = name.partition(".")
    if module != "operator" or name not in OPERATORS.operators:
        return None
    others = {other.__name__: other for other in NUMBERS.values()}
    return getattr(operator, function, None) or others.get(function)
