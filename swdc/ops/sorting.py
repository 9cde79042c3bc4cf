"""Sorting along a dimension, counting, searching and drawing: the channels that these work along are frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import fx

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.along_positions import AlongPositions, is_several
from swdc.ops.base import Operator, name_of, register
from swdc.ops.freezing import freeze_inputs


@register
class Sorting(AlongPositions):
    """The values along a dimension in order, all or the largest of them, and their old places."""

    names = (
        "aten.sort.default", "aten.sort.stable", "aten.topk.default", "aten.argsort.default", "aten.argsort.stable",
        "aten.msort.default", "aten.kthvalue.default",
    )  # fmt: skip

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Exporters do not know the sort that keeps the order of what is equal, which ONNX always keeps."""
        return _in_order if target is torch.ops.aten.sort.stable else None

    def selects(self, target: Any, arguments: Mapping[str, Any]) -> tuple[int | None, bool] | None:
        """The first values, or all."""
        number = arguments.get("k") if name_of(target) == "aten.topk.default" else None
        return number, arguments.get("largest") is not False

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The named dimension, by default the first."""
        return [call.arguments.get("dim", 0)]

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """The dimension stays, unless a single value along it is taken."""
        over = self._over(call, len(dims)) if call.arguments.get("keepdim") is False else set()
        return [x for d, x in enumerate(dims) if d not in over]

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant shared by all values stays; other values and the old places are unknown."""
        dead = channels.dead(call["self"])
        for dim in self._over(call, len(dead)):
            dead[dim] = dead[dim] if isinstance(dead[dim], float) else UNKNOWN
        values = self.result(call, dead, UNKNOWN)
        unknown = [UNKNOWN] * len(values)
        if is_several(call):
            channels.set_dead(call, [values, unknown])
        else:
            channels.set_dead(call, values if call.operator == "aten.msort.default" else unknown)


def _in_order(self: Any, *, stable: bool | None, dim: int = -1, descending: bool = False) -> Any:
    return torch.sort(self, dim, descending)


@register
class Counting(Operator):
    """Counts, searches and draws over whole inputs, which are frozen; the result holds no channels."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}"
        for name in (
            "bincount.default histc.default unique_dim.default unique_consecutive.default _unique.default "
            "_unique2.default unique_dim_consecutive.default searchsorted.Tensor searchsorted.Scalar bucketize.Tensor "
            "bucketize.Scalar multinomial.default one_hot.default isin.Tensor_Tensor isin.Tensor_Scalar "
            "isin.Scalar_Tensor repeat_interleave.Tensor"
        ).split()
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze all inputs."""
        freeze_inputs(call, channels, "looks at every value")
        shapes: Any = call.shape if is_several(call) else [call.shape]
        labels = [[None] * len(shape or ()) for shape in shapes]
        channels.set(call, labels if is_several(call) else labels[0])


@register
class Condition(Counting):
    """The places where a condition is true; their number depends on the data."""

    names: ClassVar[tuple[str, ...]] = ("aten.nonzero_numpy.default", "aten.argwhere.default", "aten.where.default")
    finds = by_condition = True

    def found_nowhere(self, args: Sequence[Any]) -> list[Any]:
        """Make the condition false everywhere."""
        return [torch.zeros_like(args[0]), *args[1:]]

    def conditions(self, args: Sequence[Any]) -> list[Any]:
        """The first argument."""
        return [args[0]]


@register
class Nonzero(Condition):
    """The places that are not zero; Python code may branch on their number."""

    names = ("aten.nonzero.default",)
    steers = True


@register
class MaskedSelection(Counting):
    """The values where a mask is true; Python code may branch on their number."""

    names = ("aten.masked_select.default",)
    finds = by_condition = steers = True

    def found_nowhere(self, args: Sequence[Any]) -> list[Any]:
        """Make the mask false everywhere."""
        x, mask, *rest = args
        return [x, torch.zeros_like(mask), *rest]

    def conditions(self, args: Sequence[Any]) -> list[Any]:
        """The mask."""
        return [args[1]]


@register
class PythonValue(Counting):
    """A number or a truth value for Python code."""

    names = tuple(f"aten.{name}.default" for name in "item _local_scalar_dense equal allclose is_nonzero".split())
    steers = True


@register
class Assertion(Counting):
    """Checks of values: the model's code fails where they do not hold, and so does a program."""

    names = tuple(
        f"aten._{name}" for name in "assert_async.default assert_async.msg functional_assert_async.msg".split()
    )
    asserts = True


def expect_any(condition: fx.Node, before: fx.Node, text: str) -> None:
    """Let a graph of capture fail with a text where a condition holds nowhere, before one of its nodes."""
    graph = before.graph
    with graph.inserting_before(before):
        found = graph.call_function(torch.ops.aten.any.default, (condition,))
        check = graph.call_function(torch.ops.aten._assert_async.msg, (found, text))
    for node in (found, check):
        node.meta = {name: x for name, x in before.meta.items() if name in ("stack_trace", "nn_module_stack")}
    found.meta["val"] = torch.empty((), dtype=torch.bool, device="meta")


def expect_several(value: fx.Node, dim: int, before: fx.Node, text: str) -> None:
    """Let a graph of capture fail with a text where a size is one, before one of its nodes."""
    graph = before.graph
    with graph.inserting_before(before):
        size = graph.call_function(torch.ops.aten.sym_size.int, (value, dim))
        number = graph.call_function(torch.ops.aten.scalar_tensor.default, (size,))
        other = graph.call_function(torch.ops.aten.ne.Scalar, (number, 1))
    for node in (size, number, other):
        node.meta = {name: x for name, x in before.meta.items() if name in ("stack_trace", "nn_module_stack")}
    size.meta["val"] = value.meta["val"].shape[dim]
    number.meta["val"] = torch.empty((), device="meta")
    other.meta["val"] = torch.empty((), dtype=torch.bool, device="meta")
    expect_any(other, before, text)


@register
class SizeAssertion(Counting):
    """Checks of sizes and types that export assumed."""

    names = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default")
    checks = True
