"""On which side of zero the values of a program lie, as far as its operators tell it.

Removed channels count as zeros in an extremum. That changes nothing if no value is negative, for a maximum, or
positive, for a minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from torch import fx

from swdc.ir.call import Call, Ref
from swdc.ir.graph import DTYPE
from swdc.ir.program import Program
from swdc.ops.base import calls
from swdc.ops.call_cost import kind_of
from swdc.ops.extrema import ExactExtremum, ExactExtremumAndPlace
from swdc.ops.in_place import overwrites
from swdc.ops.items import is_item


class Sign(NamedTuple):
    """Whether no value of a tensor, or a number, is negative, and whether none is positive."""

    not_negative: bool
    not_positive: bool


Of = Callable[[Any], Sign]
"""Returns the sign of an argument of a call."""
Rule = Callable[[Call, Of], Sign]
UNKNOWN, ABOVE, BELOW = Sign(False, False), Sign(True, False), Sign(False, True)

_EXTREMA = (*ExactExtremum.names, *ExactExtremumAndPlace.names)
_VALUES_FIRST = frozenset(
    """
    max min extremum_and_place cummax cummin sort topk kthvalue median max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    """.split()
)
"""Operators whose first result is values, and the second something else."""


def counting_zeros(program: Program) -> Iterator[tuple[fx.Node, bool]]:
    """Yield the extrema of a slim program that zeros of removed channels may decide, and whether each is a maximum."""
    found = [(node, call) for node, (_, call) in calls(program).items() if call.operator in _EXTREMA]
    signs = signs_of(program) if found else {}
    for node, call in found:
        sign = signs.get(call["self"], UNKNOWN)
        if not (sign.not_negative if call["largest"] else sign.not_positive):
            yield node, call["largest"]


def signs_of(program: Program) -> dict[fx.Node, Sign]:
    """Return what is known of the signs of a program's values; nothing if it overwrites values."""
    written = [node.args[0] for node in program.graph.nodes if overwrites(node)]
    if not all(isinstance(value, fx.Node) and value.op == "get_attr" for value in written):
        return {}
    signs: dict[fx.Node, Sign] = {}

    def of(value: Any) -> Sign:
        if isinstance(value, list | tuple):
            return _common(map(of, value))
        if isinstance(value, int | float):
            return Sign(value >= 0, value <= 0)
        return signs.get(value, UNKNOWN)

    known = calls(program)
    for node, (operator, call) in known.items():
        if is_item(node):
            _, made = known.get(call["0"], (None, None))
            other = made is not None and kind_of(made) in _VALUES_FIRST and call["1"] != 0
            signs[node] = UNKNOWN if other else of(call["0"])
        else:
            signs[node] = ABOVE if operator.not_negative else _RULES.get(kind_of(call), _unknown)(call, of)
    return signs


def _common(signs: Iterable[Sign]) -> Sign:
    found = list(signs)
    return Sign(all(sign.not_negative for sign in found), all(sign.not_positive for sign in found))


def _opposite(sign: Sign) -> Sign:
    return Sign(sign.not_positive, sign.not_negative)


def _times(one: Sign, other: Sign) -> Sign:
    alike = (one.not_negative and other.not_negative) or (one.not_positive and other.not_positive)
    return Sign(alike, (one.not_negative and other.not_positive) or (one.not_positive and other.not_negative))


def _first_of(call: Call) -> Any:
    return next(iter(call.arguments.values()))


def _unknown(call: Call, of: Of) -> Sign:
    return UNKNOWN


def _above(call: Call, of: Of) -> Sign:
    return ABOVE


def _below(call: Call, of: Of) -> Sign:
    return BELOW


def _first(call: Call, of: Of) -> Sign:
    """The results have the sign of the first argument, or are zero."""
    return of(_first_of(call))


def _first_above(call: Call, of: Of) -> Sign:
    """The same is known if no value of the first argument is negative."""
    return Sign(of(_first_of(call)).not_negative, False)


def _cast(call: Call, of: Of) -> Sign:
    """A cast to whole numbers may wrap around, which makes numbers of either sign."""
    return _first(call, of) if call.node.meta[DTYPE].is_floating_point else UNKNOWN


def _all(*names: str) -> Rule:
    """Return the rule that the results have the sign which all of those arguments have that a call gives."""

    def rule(call: Call, of: Of) -> Sign:
        return _common(of(call[name]) for name in names if call.arguments.get(name) is not None)

    return rule


def _added(call: Call, of: Of) -> Sign:
    """A sum: of two sizes, or of ``self`` and ``alpha`` times ``other``."""
    one, other, factor = (call.arguments.get(n) for n in ("self", "other", "alpha"))
    return _common(map(of, call.arguments.values())) if one is None else _common((of(one), _scaled(other, factor, of)))


def _subtracted(call: Call, of: Of) -> Sign:
    """A difference, which may be one of two sizes."""
    one, other, factor = (call.arguments.get(n) for n in ("self", "other", "alpha"))
    return UNKNOWN if one is None else _common((of(one), _opposite(_scaled(other, factor, of))))


def _subtracted_from(call: Call, of: Of) -> Sign:
    return _common((of(call["other"]), _opposite(_scaled(call["self"], call["alpha"], of))))


def _scaled(value: Any, factor: Any, of: Of) -> Sign:
    return of(value) if factor is None else _times(of(value), of(factor))


def _product(call: Call, of: Of) -> Sign:
    """The product or quotient of all tensors and numbers; the product of a tensor and itself is a square."""
    values = [value for a in call.arguments.values() for value in (a if isinstance(a, list) else [a])]
    operands = [value for value in values if isinstance(value, fx.Node | Ref | int | float)]
    if kind_of(call) == "mul" and len(operands) == 2 and operands[0] is operands[1]:
        return ABOVE
    sign = of(operands[0])
    for operand in operands[1:]:
        sign = _times(sign, of(operand))
    return sign


def _power(call: Call, of: Of) -> Sign:
    base, exponent = list(call.arguments.values())[:2]
    even = isinstance(exponent, int | float) and exponent % 2 == 0
    return ABOVE if even else Sign(of(base).not_negative, False)


def _negated(call: Call, of: Of) -> Sign:
    return _opposite(_first(call, of))


def _softplus(call: Call, of: Of) -> Sign:
    return ABOVE if call["beta"] > 0 else BELOW


def _larger(one: Sign, other: Sign) -> Sign:
    return Sign(one.not_negative or other.not_negative, one.not_positive and other.not_positive)


def _smaller(one: Sign, other: Sign) -> Sign:
    return _opposite(_larger(_opposite(one), _opposite(other)))


def _maximum(call: Call, of: Of) -> Sign:
    """The larger of two tensors, or the largest of one."""
    return _larger(of(call["self"]), of(call["other"])) if "other" in call.arguments else of(call["self"])


def _minimum(call: Call, of: Of) -> Sign:
    """The smaller of two tensors, or the smallest of one."""
    return _smaller(of(call["self"]), of(call["other"])) if "other" in call.arguments else of(call["self"])


def _bounded(call: Call, of: Of) -> Sign:
    """A value between two bounds, each of which may be left out; the upper one counts if they cross."""
    sign = of(_first_of(call))
    least, most = (next((call[n] for n in (name, f"{name}_val") if n in call.arguments), None) for name in _BOUNDS)
    sign = sign if least is None else _larger(sign, of(least))
    return sign if most is None else _smaller(sign, of(most))


_BOUNDS = ("min", "max")
_BY_RULE: dict[Rule, str] = {
    _above: """
        relu square absolute sqrt rsqrt exp2 cosh acosh acos arccos erfc softmax _softmax linalg_vector_norm
        linalg_norm norm frobenius_norm var std variance cdist _cdist_forward _euclidean_dist hypot count_nonzero any
        all one_hot rand rand_like i0 special_i0 special_i0e special_ndtr special_expit special_exp2 special_erfc
        special_erfcx zeros zeros_like ones ones_like new_zeros new_ones sym_size sym_numel isnan isinf isfinite
        eq ne lt le gt ge logical_not logical_and logical_or logical_xor
        """,
    _below: "log_softmax _log_softmax log_sigmoid",
    _first: """
        view reshape _unsafe_view view_as reshape_as unflatten flatten unfold permute transpose t mT movedim moveaxis
        swapaxes swapdims squeeze unsqueeze expand expand_as broadcast_to repeat tile repeat_interleave contiguous clone
        alias detach lift_fresh_copy slice slice_copy narrow narrow_copy select select_copy
        index_select index _unsafe_index gather take_along_dim masked_select diagonal im2col col2im flip fliplr flipud
        roll rot90 unbind split split_with_sizes chunk tensor_split hsplit vsplit unsafe_chunk unsafe_split
        unsafe_split_with_sizes pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle dropout
        feature_dropout tril triu max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d
        avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d reflection_pad1d reflection_pad2d
        reflection_pad3d replication_pad1d replication_pad2d replication_pad3d upsample_nearest1d upsample_nearest2d
        upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d upsample_trilinear3d mean sum nansum amax amin extremum extremum_and_place
        cummax cummin cumsum sort msort topk kthvalue median tanh sign sgn floor ceil round trunc fix sinh asinh arcsinh
        atan arctan erf hardshrink softshrink deg2rad rad2deg
        """,
    _first_above: """
        leaky_relu elu celu selu gelu silu mish hardswish log1p expm1 reciprocal
        """,
    _cast: "to _to_copy type_as",
    _softplus: "softplus",
    _all("tensors"): "cat concat concatenate stack hstack vstack dstack",
    _all("self", "src"): "slice_scatter select_scatter scatter_add",
    _all("self", "values"): "index_put _unsafe_index_put",
    _all("self", "value"): "masked_fill pad constant_pad_nd",
    _all("self", "other"): "where",
    _all("fill_value"): "full full_like new_full",
    _all("src"): "copy",
    _all("value"): "scaled_dot_product_attention fill",
    _added: "add",
    _subtracted: "sub subtract",
    _subtracted_from: "rsub",
    _product: """
        mul multiply div divide true_divide truediv floordiv matmul linalg_matmul mm bmm mv dot outer einsum
        """,
    _power: "pow float_power",
    _maximum: "maximum max",
    _minimum: "minimum min",
    _bounded: "clamp clip hardtanh clamp_min clamp_max",
    _negated: "neg negative",
}
_RULES = {kind: rule for rule, kinds in _BY_RULE.items() for kind in kinds.split()}
