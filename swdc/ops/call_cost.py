"""The work of a call: its operations, and what onnxruntime runs for it, as products of dimensions of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypeAlias

from torch import fx

from swdc.ir.call import Call, Value
from swdc.ir.graph import SHAPE

ShapeOf: TypeAlias = Callable[[Value], tuple[int, ...]]
"""Gives the concrete shape of a value, at the batch size that is counted."""
Dim: TypeAlias = tuple[Value, int]
Option: TypeAlias = int | tuple[int, ...]
Options: TypeAlias = tuple[tuple[str, Option], ...]


@dataclass(frozen=True)
class Cost:
    """Operations of one call, as a monomial: a coefficient times the sizes of some dimensions.

    ``dims`` names these dimensions by value and index: those of channels, which a plan changes, and sometimes others (a
    recurrent layer's steps). The batch is among them, or in the coefficient. Each convention has its coefficient:
    ``paper`` and ``reference`` count as section 4.5 of Tessier et al. 2022 does, with the positions that the layer
    reads or writes; ``macs`` counts multiply-adds.
    """

    dims: tuple[Dim, ...]
    paper: int
    reference: int
    macs: int


@dataclass(frozen=True)
class Quotient:
    """A size: a coefficient times the sizes of some dimensions, divided by those of others."""

    dims: tuple[Dim, ...]
    over: tuple[Dim, ...] = ()
    coefficient: int = 1


@dataclass(frozen=True)
class Use:
    """One run of an ONNX operator; options and sizes are those of ``swdc.costs.latency.operator_kinds.KINDS``."""

    operator: str
    options: Options
    sizes: tuple[Quotient, ...]


class Work:
    """What counting and timing need to know of an operator."""

    family: ClassVar[str] = ""
    """Its name in reports, for operators with many names; by default its name without namespace and overload."""

    timed_as: ClassVar[str] = "Add"
    """The ONNX operator that takes as long on the largest tensor of a call; empty if hardly any data is moved."""

    absorbs: ClassVar[bool] = False
    """Whether onnxruntime fuses sums, norms and activations of its result into it."""

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """Return the operations of a call; by default none."""
        return ()

    def is_absorbed(self, call: Call) -> bool:
        """Whether onnxruntime computes a call within the convolution or dense layer before it."""
        return False

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """Return what onnxruntime runs for a call, in order.

        By default a dense layer for each product among its operations, or, if there are none, ``timed_as``.
        """
        products = [cost for cost in self.cost(call, shape_of) if cost.macs and len(cost.dims) > 1]
        if products:
            return tuple(map(_dense, products))
        return on_largest(self.timed_as, call, shape_of)


def kind_of(call: Call) -> str:
    """Return the operator of a call without namespace, overload and the suffix ``_`` of in-place operators."""
    return call.operator.split(".")[1].removesuffix("_")


def _dense(cost: Cost) -> Use:
    """Return a product as a dense layer that is applied to rows."""
    *rows, written, read = cost.dims
    return Use("Gemm", (), (Quotient(tuple(rows), (), cost.macs), Quotient((read,)), Quotient((written,))))


def on_largest(operator: str, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
    """Return an ONNX operator on the largest tensor that a call reads or writes; nothing if ``operator`` is empty."""
    nodes = [value for value in (*call.tensors(), call.node) if isinstance(value, fx.Node) and _is_tensor(value)]
    if not operator or not nodes:
        return ()
    return (on_each_element(operator, max(nodes, key=lambda node: prod(shape_of(node))), shape_of),)


def on_each_element(operator: str, value: Value, shape_of: ShapeOf) -> Use:
    """Return an ONNX operator that works on each element of a value."""
    return Use(operator, (), (Quotient(tuple((value, d) for d in range(len(shape_of(value))))),))


def _is_tensor(node: fx.Node) -> bool:
    shape = node.meta.get(SHAPE)
    return shape is not None and not any(isinstance(size, tuple) for size in shape)
