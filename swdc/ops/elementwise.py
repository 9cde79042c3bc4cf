"""Operators that work element by element, with broadcasting: activations, comparisons, choices.

A channel of the result is the same channel of every operand. The value of a dead channel is found by computing the
operator itself on the dead values of its operands, in float64: relu(0) = 0, sigmoid(0) = 0.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import UNKNOWN, Dead, in_type, number, plain
from swdc.channels.labels import Channels
from swdc.channels.singles import Single
from swdc.ir.call import Call, Value, tensors_behind
from swdc.ir.groups import Bools, Ids
from swdc.ops.base import Operator, lookup, name_of, register
from swdc.ops.call_cost import ShapeOf, Use, kind_of, on_largest
from swdc.ops.capture_traits import like_input
from swdc.ops.dead_value_evaluation import computed, in_kind, signed
from swdc.ops.identity import Evaluation, Identity, copy_of
from swdc.ops.sizes_of_parts import broadcast_sizes


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
    silu gelu hardswish mish tanh elu selu celu leaky_relu softplus hardshrink softshrink threshold log_sigmoid logit
    special_logit special_expit exp2 special_exp2 expm1 special_expm1 log log2 log10 log1p special_log1p sqrt rsqrt
    square absolute neg negative sgn reciprocal
    sin cos tan asin acos atan arcsin arccos arctan sinh cosh asinh acosh atanh arcsinh arccosh arctanh sinc
    special_sinc deg2rad rad2deg erf erfc erfinv special_erf special_erfc special_erfinv special_erfcx special_ndtr
    special_ndtri special_entr lgamma digamma special_gammaln special_digamma i0 special_i0 special_i0e special_i1
    fix frac clip clamp_min clamp_max isinf isposinf isneginf isreal logical_not bitwise_not
""".split()
_BINARY = """
    maximum minimum hypot heaviside nextafter logaddexp logaddexp2 logical_or logical_xor isclose
""".split()
_WITH_SCALAR = """
    eq ne lt le gt ge not_equal less less_equal greater greater_equal subtract bitwise_or bitwise_xor
    __or__ __xor__ __lshift__ __rshift__
""".split()
_OTHERS = """
    pow.Tensor_Scalar pow.Scalar pow.Tensor_Tensor float_power.Tensor_Scalar float_power.Scalar
    float_power.Tensor_Tensor round.decimals max.other min.other clamp.Tensor clip.Tensor clamp_min.Tensor
    clamp_max.Tensor bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar bitwise_right_shift.Tensor
    bitwise_right_shift.Tensor_Scalar bitwise_or.Scalar_Tensor bitwise_xor.Scalar_Tensor ldexp.Tensor xlogy.Tensor
    xlogy.Scalar_Other xlogy.Scalar_Self special_xlogy.default special_xlog1py.default
""".split()

_ABSORBED = frozenset("add relu relu6 hardtanh clamp clamp_min sigmoid tanh leaky_relu hardsigmoid".split())
"""Operators that onnxruntime computes within the convolution or dense layer before them."""
_COSTLY = frozenset("sigmoid silu gelu tanh mish elu selu celu softplus hardswish exp erf log log_sigmoid".split())
"""Operators that take an exponential or a logarithm of each element."""
_EVERYDAY = frozenset(
    f"aten.{name}{mark}.default"
    for name in "relu relu6 hardtanh silu gelu hardswish hardsigmoid sigmoid tanh".split()
    for mark in ("", "_")
)
"""Activations that networks call so often that asking torch for the form of their results would be slow."""


@register
class Pointwise(Operator):
    """Any function of the elements at one position."""

    any_order = by_element = True
    names: ClassVar[tuple[str, ...]] = (
        *(f"aten.{name}.default" for name in (*_UNARY, *_BINARY)),
        *(f"aten.{name}.{kind}" for name in _WITH_SCALAR for kind in ("Tensor", "Scalar")),
        *(f"aten.{name}" for name in _OTHERS),
    )
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the operands' channels, with broadcasting."""
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
            held = in_type(value, channels.dtype(call.node))
            if np.isinf(held).any():
                channels.undefined.update(tensors_behind(self._at_fault(call, operands, dead, dtypes)))
            values.append(freeze_infinite(call, channels, ids, held))
        channels.set_dead(call, values)

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """Compute the operator on the dead values of single channels."""
        operands, dtypes = call.tensors(), [channels.dtype(operand) for operand in call.tensors()]
        singles: dict[int, Single] = {}
        for label, single in channels.singles.of_inputs(call).items():
            known = [channels.singles.of(operand).get(label) for operand in operands]
            dead: list[Dead] = [UNKNOWN if one is None else one.dead for one in known]
            value = in_type(self.combine(call, operands, dead, dtypes), channels.dtype(call.node))
            held = freeze_infinite(call, channels, np.array([label]), value)
            singles[label] = Single(float(np.ravel(held)[0]), single.reason)
        channels.singles.set(call, singles)

    def _at_fault(
        self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]
    ) -> Iterator[Value]:
        """Yield the operands for which the operator would be defined if they were not what they are."""
        for place, operand in enumerate(operands):
            others = [UNKNOWN if other == place else value for other, value in enumerate(dead)]
            if not np.isinf(self.combine(call, operands, others, dtypes)).any():
                yield operand

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """Return the dead value of the result along one dimension; infinity if the operator is not defined."""
        if any(np.isnan(d).all() for d in dead):
            return UNKNOWN
        given = [torch.as_tensor(np.atleast_1d(d), dtype=torch.float64) for d in dead]
        held = [in_kind(t, dtype) for t, dtype in zip(given, dtypes, strict=True)]
        result, *others = (computed(call, operands, one) for one in product(*map(self.alternatives, held)))
        values = torch.where(result.isfinite(), result, torch.inf)
        for other in others:
            values = torch.where((other == result) | other.isnan(), values, torch.nan)
        for tensor in given:
            values = torch.where(tensor.isnan(), torch.nan, values)
        return float(values) if all(isinstance(d, float) for d in dead) else values.numpy()

    def alternatives(self, held: torch.Tensor) -> Iterable[torch.Tensor]:
        """Return what an operand with these dead values may hold; the result is known if it is the same for all.

        The signs of zeros are not known, and decide what some functions of complex numbers return.
        """
        return signed(held) if held.is_complex() else [held]

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """The result of an activation has the form of its input."""
        return like_input(target, args) if name_of(target) in _EVERYDAY else None

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The operands are broadcast."""
        sizes = broadcast_sizes([x.shape for x in arguments.values() if isinstance(x, torch.Tensor)])
        return None if sizes is None else [sizes]

    def is_absorbed(self, call: Call) -> bool:
        """True for sums, and for activations that onnxruntime fuses."""
        return kind_of(call) in _ABSORBED

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """An operator that takes an exponential or a logarithm costs as much as a sigmoid."""
        return on_largest("Sigmoid" if kind_of(call) in _COSTLY else self.timed_as, call, shape_of)


def freeze_infinite(call: Call, channels: Channels, labels: Ids | None, dead: Dead) -> Dead:
    """Freeze the channels that become infinite when dead (by a division by zero), and return the values of all."""
    infinite = np.isinf(dead)
    if labels is None or not infinite.any():
        return dead
    text = "is not defined for a dead channel (it divides by zero, or takes a logarithm of it)"
    reason = call.reason(text, edit="add a small number to what may be zero, as in x / (y + 1e-6)")
    channels.freeze(labels[np.broadcast_to(infinite, labels.shape)], reason)
    return UNKNOWN if isinstance(dead, float) else np.where(infinite, UNKNOWN, dead)


@register
class Positive(Pointwise):
    """Functions that are never negative."""

    names = ("aten.sigmoid.default", "aten.hardsigmoid.default", "aten.exp.default")
    not_negative = True


@register
class Idempotent(Pointwise):
    """Functions that change nothing when they are applied a second time."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}.default" for name in "sign ceil floor round trunc hardtanh clamp".split()
    )

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the input is a result of the same function with the same options."""
        x = call["self"]
        before = evaluation.maker(x) if isinstance(x, fx.Node) else None
        return None if before is None or not self.keeps(call, before) else copy_of(x)

    def keeps(self, call: Call, before: Call) -> bool:
        """Whether a call returns the result of the call before it unchanged."""
        options, others = (list(one.arguments.values())[1:] for one in (call, before))
        return call.operator == before.operator and options == others


@register
class Rectifier(Idempotent):
    """Idempotent functions that are never negative."""

    names = ("aten.relu6.default", "aten.abs.default")
    not_negative = True


@register
class ReLU(Idempotent):
    """A ReLU: it does not change values that cannot be negative."""

    names = ("aten.relu.default",)

    def keeps(self, call: Call, before: Call) -> bool:
        """Whether the input is a result of a ReLU, or of a function that is never negative."""
        return super().keeps(call, before) or lookup(before.operator).not_negative


@register
class Interpolation(Pointwise):
    """Interpolation between two values: if both are equal, so is the result, for any weight."""

    names = ("aten.lerp.Scalar", "aten.lerp.Tensor")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """If both ends are equal, the result is the same value."""
        value = super().combine(call, operands, dead, dtypes)
        return plain(np.where(equal(dead[0], dead[1]), dead[0], value))


@register
class Choice(Pointwise):
    """One of two values, by a condition: known if both are equal, or if the condition is known."""

    names = (
        "aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar",
        "aten.masked_fill.Scalar", "aten.masked_fill.Tensor",
    )  # fmt: skip

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """Choose among the dead values."""
        given = {id(operand): value for operand, value in zip(operands, dead, strict=True)}
        names = ("mask", "value", "self") if "mask" in call.arguments else ("condition", "self", "other")
        chosen = [given[id(call[n])] if id(call[n]) in given else number(call[n]) for n in names]
        condition, one, other = np.broadcast_arrays(*chosen)
        decided = np.where(condition != 0, one, other)
        return plain(np.where(np.isnan(condition), np.where(one == other, one, np.nan), decided))


@register
class BroadcastTensors(Operator):
    """Several tensors expanded to their common shape."""

    names = ("aten.broadcast_tensors.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """All results have the same channels."""
        labels = couple_broadcast(call, channels, call.tensors())
        channels.set(call, [list(labels) for _ in call.shape])

    def fold(self, call: Call, channels: Channels) -> None:
        """Dimensions that are not expanded keep their dead values."""
        rank = max(len(channels.sizes(v)) for v in call.tensors())
        columns = [dead_operands(rank, channels, call.tensors(), dim) for dim in range(rank)]
        channels.set_dead(call, [list(row) for row in zip(*columns, strict=True)])


def equal(dead: Dead, value: Dead) -> Bools:
    """Return where dead values are known to equal a value."""
    return np.asarray(np.asarray(dead, dtype=np.float64) == np.asarray(value, dtype=np.float64))
