"""Operators that work element by element: activations, arithmetic with broadcasting, copies and casts.

A channel of the result is the same channel of every operand. What a dead channel becomes is found by computing the
operator itself on the dead values of its operands, in float64: relu(0) = 0, sigmoid(0) = 0.5.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from swdc.channels.dead import UNKNOWN, Dead, plain
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Value
from swdc.ir.groups import Bools, Ids
from swdc.ops.base import Operator, register, target_of


def couple_broadcast(call: Call, channels: Channels, operands: list[Value], skip: int | None = None) -> list[Any]:
    """Join the channels of operands that broadcast against each other, and return the labels of the result.

    Dimension ``skip`` is left out; without operands there are no labels.
    """
    sizes = [channels.sizes(operand) for operand in operands]
    rank = max(map(len, sizes), default=0)
    result: list[Any] = [None] * rank
    for dim in range(rank):
        if dim == skip:
            continue
        aligned = [(o, dim - rank + len(s)) for o, s in zip(operands, sizes, strict=True)]
        aligned = [(o, d) for (o, d), s in zip(aligned, sizes, strict=True) if d >= 0 and s[d] != 1]
        labels = [channels.channels(o, d) for o, d in aligned]
        if all(ids is None for ids in labels):
            continue
        result[dim] = labels[0]
        for other in labels[1:]:
            result[dim] = channels.join(result[dim], other, call)
    return result


def dead_operands(rank: int, channels: Channels, operands: list[Value], dim: int) -> list[Dead]:
    """Return the dead value of each operand along a dimension of a result of that rank; unknown where broadcast."""
    places = [(operand, dim - rank + len(channels.sizes(operand))) for operand in operands]
    widest = max(channels.sizes(operand)[own] for operand, own in places if own >= 0)
    return [
        UNKNOWN if own < 0 or channels.sizes(operand)[own] < widest else channels.dead(operand)[own]
        for operand, own in places
    ]


_UNARY = """
    relu relu6 hardtanh silu gelu hardswish mish hardsigmoid sigmoid tanh elu selu celu leaky_relu softplus hardshrink
    softshrink threshold log_sigmoid logit special_logit special_expit exp exp2 special_exp2 expm1 special_expm1 log
    log2 log10 log1p special_log1p sqrt rsqrt square abs absolute neg negative sign sgn signbit reciprocal
    sin cos tan asin acos atan arcsin arccos arctan sinh cosh asinh acosh atanh arcsinh arccosh arctanh sinc
    special_sinc deg2rad rad2deg erf erfc erfinv special_erf special_erfc special_erfinv special_erfcx special_ndtr
    special_ndtri special_entr lgamma digamma special_gammaln special_digamma i0 special_i0 special_i0e special_i1
    floor ceil round trunc fix frac angle clamp clip clamp_min clamp_max nan_to_num isnan isinf isfinite isposinf
    isneginf isreal logical_not bitwise_not
""".split()
_BINARY = """
    maximum minimum fmax fmin atan2 arctan2 hypot heaviside nextafter logaddexp logaddexp2 logical_or logical_xor
    isclose
""".split()
_WITH_SCALAR = """
    eq ne lt le gt ge not_equal less less_equal greater greater_equal add sub subtract rsub bitwise_or bitwise_xor
    __or__ __xor__ __lshift__ __rshift__ copysign
""".split()
_OTHERS = """
    pow.Tensor_Scalar pow.Scalar pow.Tensor_Tensor float_power.Tensor_Scalar float_power.Scalar
    float_power.Tensor_Tensor round.decimals max.other min.other clamp.Tensor clip.Tensor clamp_min.Tensor
    clamp_max.Tensor bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar bitwise_right_shift.Tensor
    bitwise_right_shift.Tensor_Scalar bitwise_or.Scalar_Tensor bitwise_xor.Scalar_Tensor ldexp.Tensor xlogy.Tensor
    xlogy.Scalar_Other xlogy.Scalar_Self special_xlogy.default special_xlog1py.default
""".split()


@register
class Pointwise(Operator):
    """Any function of the elements at one position."""

    any_order = True
    names: ClassVar[tuple[str, ...]] = (
        *(f"aten.{name}.default" for name in (*_UNARY, *_BINARY)),
        *(f"aten.{name}.{kind}" for name in _WITH_SCALAR for kind in ("Tensor", "Scalar")),
        *(f"aten.{name}" for name in _OTHERS),
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
            dead = dead_operands(len(call.shape), channels, operands, dim)
            value = self.combine(call, operands, dead, dtypes) if channels.dead.follows(ids) else UNKNOWN
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
        result = _real(target(*positional, **arguments))
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
    """Return dead values as the operator takes them: truth values and integers as such, all else in double size."""
    if dtype.is_complex:
        return dead.to(torch.complex128)
    return dead if dtype.is_floating_point else dead.nan_to_num().to(dtype)


def _real(result: torch.Tensor) -> torch.Tensor:
    """Return results in float64, NaN for those that are not real."""
    if result.is_complex():
        return torch.where(result.imag == 0, result.real, torch.nan).to(torch.float64)
    return result.to(torch.float64)


def _exact(argument: Any) -> Any:
    """Let casts between floating types keep the value, on the CPU: how and where a program runs is not known here."""
    if isinstance(argument, torch.device):
        return torch.device("cpu")
    return torch.float64 if isinstance(argument, torch.dtype) and argument.is_floating_point else argument


@register
class Product(Pointwise):
    """Products: zero where any factor is zero, whatever the others are."""

    names = tuple(
        f"aten.{name}"
        for name in (
            "mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar logical_and.default bitwise_and.Tensor "
            "bitwise_and.Scalar bitwise_and.Scalar_Tensor __and__.Tensor __and__.Scalar"
        ).split()
    )

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """A zero factor decides."""
        value = super().combine(call, operands, dead, dtypes)
        return plain(np.where(equal(dead[0], 0.0) | equal(dead[1], 0.0), 0.0, value)) if len(dead) == 2 else value


@register
class Quotient(Pointwise):
    """Quotients and remainders: zero where the dividend is zero, for a divisor that is not zero itself."""

    names = tuple(
        f"aten.{name}"
        for name in (
            "div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode divide.Tensor divide.Scalar divide.Tensor_mode "
            "divide.Scalar_mode true_divide.Tensor true_divide.Scalar floor_divide.default floor_divide.Scalar "
            "fmod.Tensor fmod.Scalar remainder.Tensor remainder.Scalar remainder.Scalar_Tensor"
        ).split()
    )

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """A zero dividend decides, a zero divisor is not defined."""
        if len(dead) == 1:
            return super().combine(call, operands, dead, dtypes)
        value = super().combine(call, operands, dead, dtypes)
        divided = np.where(equal(dead[0], 0.0), 0.0, value)
        return plain(np.where(equal(dead[1], 0.0), np.inf, divided))


@register
class ScaledProduct(Pointwise):
    """A value plus a scaled product or quotient of two others."""

    names = ("aten.addcmul.default", "aten.addcdiv.default")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """A zero factor, or dividend, leaves the value alone."""
        own, one, other = dead
        value = super().combine(call, operands, dead, dtypes)
        if call.operator == "aten.addcdiv.default":
            return plain(np.where(equal(other, 0.0), np.inf, np.where(equal(one, 0.0), own, value)))
        return plain(np.where(equal(one, 0.0) | equal(other, 0.0), own, value))


@register
class Interpolation(Pointwise):
    """What lies between two values: any weight leaves a value that both share."""

    names = ("aten.lerp.Scalar", "aten.lerp.Tensor")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """Where both ends are equal, that is the result."""
        value = super().combine(call, operands, dead, dtypes)
        return plain(np.where(equal(dead[0], dead[1]), dead[0], value))


@register
class Choice(Pointwise):
    """One of two values, by a condition: what both share is certain, and what a known condition chooses."""

    names = (
        "aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar",
        "aten.masked_fill.Scalar", "aten.masked_fill.Tensor",
    )  # fmt: skip

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """Choose among the dead values."""
        given = {id(operand): value for operand, value in zip(operands, dead, strict=True)}
        names = ("mask", "value", "self") if "mask" in call.arguments else ("condition", "self", "other")
        chosen = [given[id(call[n])] if id(call[n]) in given else float(call[n]) for n in names]
        condition, one, other = np.broadcast_arrays(*chosen)
        decided = np.where(condition != 0, one, other)
        return plain(np.where(np.isnan(condition), np.where(one == other, one, np.nan), decided))


@register
class Copy(Operator):
    """The same values, it may be in another type."""

    any_order = True
    names = tuple(
        f"aten.{name}"
        for name in (
            "contiguous.default clone.default alias.default alias_copy.default detach.default detach_copy.default "
            "lift.default lift_fresh.default lift_fresh_copy.default positive.default conj.default _conj.default "
            "conj_physical.default resolve_conj.default resolve_neg.default real.default to.dtype to.dtype_layout "
            "to.device to.other _to_copy.default type_as.default"
        ).split()
    )
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels pass; another tensor only says which type is meant."""
        channels.set(call, channels.labels(call["self"]))

    def fold(self, call: Call, channels: Channels) -> None:
        """Integers drop what is behind the point."""
        kind = channels.dtype(call.node)
        channels.set_dead(call, [in_type(d, kind) for d in channels.dead(call["self"])])


@register
class Overwriting(Pointwise):
    """A tensor of the shape of the first, with the values of the second."""

    names = ("aten.copy.default", "aten.fill.Scalar", "aten.fill.Tensor", "aten.zero.default")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """What was there does not matter."""
        value = call.arguments.get("value", 0.0)
        written = dead[1] if len(dead) > 1 else float(value) if isinstance(value, int | float) else UNKNOWN
        return in_type(written, dtypes[0])


@register
class Noise(Pointwise):
    """Random changes in training, none, or one that is fixed, in evaluation."""

    names = ("aten.alpha_dropout.default", "aten.feature_alpha_dropout.default", "aten.rrelu.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Nothing is known of random changes."""
        if call.arguments.get("train", call.arguments.get("training")):
            Operator.couple(self, call, channels)
        else:
            super().couple(call, channels)


@register
class BroadcastTensors(Operator):
    """Several tensors expanded to the shape that they have together."""

    names = ("aten.broadcast_tensors.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """All results have the same channels."""
        labels = couple_broadcast(call, channels, call.tensors())
        channels.set(call, [list(labels) for _ in call.shape])

    def fold(self, call: Call, channels: Channels) -> None:
        """What was there keeps its dead value."""
        rank = max(len(channels.sizes(v)) for v in call.tensors())
        columns = [dead_operands(rank, channels, call.tensors(), dim) for dim in range(rank)]
        channels.set_dead(call, [list(row) for row in zip(*columns, strict=True)])


def equal(dead: Dead, value: Dead) -> Bools:
    """Return where dead values are known to equal a value."""
    return np.asarray(np.asarray(dead, dtype=np.float64) == np.asarray(value, dtype=np.float64))


def in_type(dead: Dead, dtype: torch.dtype) -> Dead:
    """Return dead values as they are after a cast; those that are unknown stay so."""
    if dtype.is_floating_point or dtype.is_complex:
        return dead
    values = np.asarray(dead, dtype=np.float64)
    cast = values != 0 if dtype == torch.bool else np.trunc(values)
    return plain(np.where(np.isnan(values), UNKNOWN, cast))
