"""Sums, differences, products and quotients, element by element with broadcasting."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import Dead, plain
from swdc.ir.call import Call, Value
from swdc.ops.base import Operator, register
from swdc.ops.elementwise import Pointwise, equal
from swdc.ops.identity import Evaluation, Identity, copy_of
from swdc.ops.offset_gains import Offset


class _WithNeutral(Operator):
    """An operator on two operands that returns the first if the second is the neutral number everywhere."""

    neutral: ClassVar[int]
    """The neutral number."""
    commutes: ClassVar[bool] = False
    """Whether the operands may be exchanged."""

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """A call with a neutral operand returns the other one."""
        one, other = call["self"], call["other"]
        scaled = call.arguments.get("alpha", 1) != 1
        for value, constant in [(one, other), (other, one)] if self.commutes and not scaled else [(one, other)]:
            if isinstance(value, fx.Node) and evaluation.is_all(constant, self.neutral):
                return copy_of(value)
        return None


@register
class Addition(_WithNeutral, Offset, Pointwise):
    """A sum with a number."""

    names: ClassVar[tuple[str, ...]] = ("aten.add.Scalar",)
    neutral = 0
    commutes = True


@register
class Subtraction(_WithNeutral, Offset, Pointwise):
    """A difference."""

    names = ("aten.sub.Tensor", "aten.sub.Scalar")
    neutral = 0

    def rest(self, call: Call) -> float | None:
        """The difference is zero if both operands are equal."""
        rest = super().rest(call)
        return None if rest is None else -rest


@register
class DifferenceFrom(Offset, Pointwise):
    """A number less a tensor."""

    names = ("aten.rsub.Scalar", "aten.rsub.Tensor")

    def rest(self, call: Call) -> float | None:
        """The difference is zero if both operands are equal."""
        number, alpha = call["other"], call.arguments.get("alpha", 1)
        known = isinstance(number, int | float) and isinstance(alpha, int | float) and alpha
        return float(number) / alpha if known else None


@register
class Product(Pointwise):
    """Products: zero if any factor is zero, whatever the others are."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}"
        for name in (
            "multiply.Tensor multiply.Scalar logical_and.default bitwise_and.Tensor bitwise_and.Scalar "
            "bitwise_and.Scalar_Tensor __and__.Tensor __and__.Scalar"
        ).split()
    )

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """The result is zero if a factor is zero."""
        value = super().combine(call, operands, dead, dtypes)
        return plain(np.where(equal(dead[0], 0.0) | equal(dead[1], 0.0), 0.0, value)) if len(dead) == 2 else value


@register
class Multiplication(_WithNeutral, Product):
    """A product of numbers."""

    names = ("aten.mul.Tensor", "aten.mul.Scalar")
    neutral = 1
    commutes = True


@register
class Quotient(Pointwise):
    """Quotients and remainders: zero if the dividend is zero and the divisor is not."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}"
        for name in (
            "div.Tensor_mode div.Scalar_mode divide.Tensor divide.Scalar divide.Tensor_mode divide.Scalar_mode "
            "true_divide.Tensor true_divide.Scalar floor_divide.default floor_divide.Scalar fmod.Tensor fmod.Scalar "
            "remainder.Tensor remainder.Scalar remainder.Scalar_Tensor"
        ).split()
    )

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """The result is zero if the dividend is zero; it is not defined if the divisor is zero."""
        if len(dead) == 1:
            return super().combine(call, operands, dead, dtypes)
        value = super().combine(call, operands, dead, dtypes)
        divided = np.where(equal(dead[0], 0.0), 0.0, value)
        return plain(np.where(equal(dead[1], 0.0), np.inf, divided))


@register
class Division(_WithNeutral, Quotient):
    """A quotient that is not rounded."""

    names = ("aten.div.Tensor", "aten.div.Scalar")
    neutral = 1


@register
class ScaledProduct(Pointwise):
    """A value plus a scaled product or quotient of two others."""

    names = ("aten.addcmul.default", "aten.addcdiv.default")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """The first value is unchanged if a factor or the dividend is zero."""
        own, one, other = dead
        value = super().combine(call, operands, dead, dtypes)
        if call.operator == "aten.addcdiv.default":
            return plain(np.where(equal(other, 0.0), np.inf, np.where(equal(one, 0.0), own, value)))
        return plain(np.where(equal(one, 0.0) | equal(other, 0.0), own, value))


def sum_call(value: fx.Node, number: int) -> fx.Node:
    """Return a new node of the same graph that adds a number to a value."""
    return value.graph.call_function(torch.ops.aten.add.Tensor, (value, number))
