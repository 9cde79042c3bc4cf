"""Operators that work element by element: activations, arithmetic with broadcasting, copies and casts.

A channel of the result is the same channel of every operand. What a dead channel becomes is found by computing the
operator itself on the dead values of its operands, in float64: relu(0) = 0, sigmoid(0) = 0.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from swdc.call import Call, Value
from swdc.channels import UNKNOWN, Channels, Dead, product
from swdc.groups import Ids
from swdc.ops.base import Operator, register, target_of


def couple_broadcast(call: Call, channels: Channels, operands: list[Value]) -> list[Any]:
    """Join the channels of operands that broadcast against each other, and return the labels of the result."""
    sizes = [channels.sizes(operand) for operand in operands]
    rank = max(map(len, sizes))
    result: list[Any] = [None] * rank
    for dim in range(rank):
        aligned = [(o, dim - rank + len(s)) for o, s in zip(operands, sizes, strict=True)]
        aligned = [(o, d) for (o, d), s in zip(aligned, sizes, strict=True) if d >= 0 and s[d] != 1]
        labels = [channels.channels(o, d) for o, d in aligned]
        if all(ids is None for ids in labels):
            continue
        result[dim] = labels[0]
        for other in labels[1:]:
            result[dim] = channels.join(result[dim], other, call)
    return result


def dead_operands(call: Call, channels: Channels, operands: list[Value], dim: int) -> list[Dead]:
    """Return the dead value of each operand along a dimension of the result; unknown where it is broadcast."""
    rank = len(call.shape)
    dead: list[Dead] = []
    for operand in operands:
        sizes = channels.sizes(operand)
        own = dim - rank + len(sizes)
        broadcast = own < 0 or sizes[own] == 1
        dead.append(UNKNOWN if broadcast else channels.dead(operand)[own])
    return dead


@register
class Pointwise(Operator):
    """Any function of the elements at one position."""

    names = tuple(
        f"aten.{name}"
        for name in (
            "relu.default relu6.default hardtanh.default silu.default gelu.default hardswish.default mish.default "
            "hardsigmoid.default sigmoid.default tanh.default elu.default selu.default celu.default "
            "leaky_relu.default softplus.default hardshrink.default "
            "softshrink.default threshold.default log_sigmoid.default "
            "exp.default exp2.default expm1.default log.default log2.default log10.default log1p.default "
            "sqrt.default rsqrt.default square.default abs.default neg.default sign.default reciprocal.default "
            "sin.default cos.default tan.default atan.default erf.default floor.default ceil.default round.default "
            "pow.Tensor_Scalar pow.Scalar pow.Tensor_Tensor clamp.default clamp_min.default clamp_max.default "
            "add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Scalar rsub.Tensor maximum.default minimum.default "
            "eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar eq.Tensor ne.Tensor lt.Tensor le.Tensor "
            "gt.Tensor ge.Tensor logical_and.default logical_or.default logical_not.default __and__.Tensor "
            "__or__.Tensor bitwise_not.default isnan.default isinf.default where.self "
            "contiguous.default clone.default alias.default detach.default lift_fresh_copy.default "
            "to.dtype to.dtype_layout to.device to.other type_as.default"
        ).split()
    )
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Join what broadcasts together."""
        operands = call.tensors()
        channels.set(call, couple_broadcast(call, channels, operands))

    def fold(self, call: Call, channels: Channels) -> None:
        """Compute the operator on the dead values."""
        operands = call.tensors()
        dtypes = [channels.dtype(operand) for operand in operands]
        values: list[Dead] = []
        for dim, ids in enumerate(channels.labels(call.node)):
            dead = dead_operands(call, channels, operands, dim)
            value = UNKNOWN if ids is None else self.combine(call, operands, dead, dtypes)
            values.append(freeze_infinite(call, channels, ids, value))
        channels.set_dead(call, values)

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """Return the dead value of the result along one dimension; infinity where the operator is not defined."""
        if any(np.isnan(d).all() for d in dead):
            return UNKNOWN
        given = [torch.as_tensor(d, dtype=torch.float64) for d in dead]
        replaced = {id(o): _in_kind(t, dtype) for o, t, dtype in zip(operands, given, dtypes, strict=True)}
        target: Any = target_of(call.operator)
        arguments = {k: replaced.get(id(v), _exact(v)) for k, v in call.arguments.items()}
        positional = [arguments.pop(a.name) for a in target._schema.arguments if not a.kwarg_only]
        result = target(*positional, **arguments).to(torch.float64)
        values = torch.where(result.isfinite(), result, torch.inf)
        for tensor in given:
            values = torch.where(tensor.isnan(), torch.nan, values)
        return float(values) if values.dim() == 0 else values.numpy()


def freeze_infinite(call: Call, channels: Channels, labels: Ids | None, dead: Dead) -> Dead:
    """Freeze the channels that become infinite when dead (by a division by zero), and return the values of all."""
    infinite = np.isinf(dead)
    if labels is None or not infinite.any():
        return dead
    text = "is not defined for a dead channel (it divides by zero, or takes a logarithm of it)"
    reason = call.reason(text, edit="add a small number to what may be zero, as in x / (y + 1e-6)")
    channels.freeze(labels[np.broadcast_to(infinite, labels.shape)], reason)
    return UNKNOWN if isinstance(dead, float) else np.where(infinite, UNKNOWN, dead)


def _in_kind(dead: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return dead values as the operator takes them: truth values and integers as such, all else in float64."""
    return dead if dtype.is_floating_point or dtype.is_complex else dead.nan_to_num().to(dtype)


def _exact(argument: Any) -> Any:
    """Let casts between floating types keep the value, on the CPU: how and where a program runs is not known here."""
    if isinstance(argument, torch.device):
        return torch.device("cpu")
    return torch.float64 if isinstance(argument, torch.dtype) and argument.is_floating_point else argument


@register
class Product(Pointwise):
    """Products: zero where any factor is zero, whatever the others are."""

    names = ("aten.mul.Tensor", "aten.mul.Scalar")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """A zero factor decides; a literal factor scales."""
        if len(dead) == 1:
            return super().combine(call, operands, dead, dtypes)
        return product(dead[0], dead[1])


@register
class Quotient(Pointwise):
    """Quotients: zero where the dividend is zero."""

    names = ("aten.div.Tensor", "aten.div.Scalar", "aten.div.Tensor_mode")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """A zero dividend decides, for a divisor that is not zero itself."""
        if len(dead) == 1 or call.arguments.get("rounding_mode"):
            return super().combine(call, operands, dead, dtypes)
        dividend, divisor = np.asarray(dead[0], dtype=np.float64), np.asarray(dead[1], dtype=np.float64)
        quotient = np.where(dividend == 0, 0.0, dividend / np.where(divisor == 0, np.nan, divisor))
        result = np.where(divisor == 0, np.inf, quotient)
        return float(result) if result.ndim == 0 else result


@register
class MaskedFill(Pointwise):
    """Fill under a mask: a dead channel keeps its value if it is the one that is filled in."""

    names = ("aten.masked_fill.Scalar",)

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """The dead value stays where filling changes nothing."""
        kept = np.where(np.asarray(dead[0]) == call["value"], dead[0], np.nan)
        return float(kept) if kept.ndim == 0 else kept
