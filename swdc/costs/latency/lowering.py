"""What onnxruntime runs for a program: layers, with sizes as products of the dimensions of its values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from swdc.costs.latency.layers import Option
from swdc.ir.call import Call, Value
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ops import Operator, calls
from swdc.ops.base import ShapeOf
from swdc.ops.convolution import Convolution, each
from swdc.ops.linear import Linear
from swdc.ops.transposed_convolution import TransposedConvolution

Dim = tuple[Value, int]
Options = tuple[tuple[str, Option], ...]


@dataclass(frozen=True)
class Quotient:
    """A size: a coefficient times the sizes of some dimensions, over those of others."""

    dims: tuple[Dim, ...]
    over: tuple[Dim, ...] = ()
    coefficient: int = 1


@dataclass(frozen=True)
class Use:
    """One run of an operator, with its options and sizes as ``swdc.costs.latency.layers.KINDS`` has them."""

    operator: str
    options: Options
    sizes: tuple[Quotient, ...]


_FREE = frozenset(
    "view reshape _unsafe_view flatten unflatten squeeze unsqueeze dropout feature_dropout alpha_dropout detach alias "
    "contiguous clone lift_fresh_copy expand to _to_copy sym_size select slice".split()
)
"""What moves no data or next to none."""
_FUSED = frozenset("relu relu6 hardtanh clamp clamp_min sigmoid tanh leaky_relu hardsigmoid".split())
"""Activations that onnxruntime computes within the convolution or dense layer before them."""
_COSTLY = frozenset("sigmoid silu gelu tanh mish elu selu celu softplus hardswish exp erf log log_sigmoid".split())
_NORMS = frozenset("layer_norm group_norm instance_norm rms_norm native_layer_norm native_group_norm".split())
_MOVES = frozenset(
    "permute transpose t movedim roll flip index gather cat stack repeat pixel_shuffle split split_with_sizes chunk "
    "unbind".split()
)


def uses(program: Program, shape_of: ShapeOf) -> list[Use]:
    """Return what onnxruntime runs for one call of a program, in order.

    Batch norms, sums and activations that go into a convolution cost nothing, nor do views. Convolutions, dense
    layers, products and pools stand for themselves; all else costs as much as an operator of its kind (elementwise,
    softmax, norm, transpose) on the largest tensor that it reads or writes.
    """
    known = calls(program)
    absorbed = _absorbed(known)
    found: list[Use] = []
    for node, (operator, call) in known.items():
        if node not in absorbed:
            found += _lowered(operator, call, shape_of)
    return found


def base(operator: str) -> str:
    """Return the name of an operator without namespace, overload and the mark of what works in place."""
    return operator.split(".")[1].removesuffix("_")


def _absorbed(known: dict[fx.Node, tuple[Operator, Call]]) -> set[fx.Node]:
    """Return the nodes that are computed within the convolution or dense layer before them."""
    ends: set[fx.Node] = set()  # convolutions, and what was absorbed by one: all that more can be absorbed by
    absorbed: set[fx.Node] = set()
    for node, (operator, call) in known.items():
        name = base(call.operator)
        before = [n for n in call.tensors() if isinstance(n, fx.Node) and n in ends and len(n.users) == 1]
        if isinstance(operator, Convolution | TransposedConvolution | Linear):
            ends.add(node)
        elif before and (name in _FUSED or name in ("add", "batch_norm")):
            absorbed.add(node)
            ends.add(node)
    return absorbed


def _lowered(operator: Operator, call: Call, shape_of: ShapeOf) -> Iterator[Use]:
    name = base(call.operator)
    if isinstance(operator, Convolution):
        yield _convolution(call, shape_of)
    elif isinstance(operator, TransposedConvolution):
        yield _transposed(call, shape_of)
    elif name in ("matmul", "bmm") and all(isinstance(value, fx.Node) for value in call.tensors()):
        one, other = call.tensors()
        yield _product(one, other, shape_of)
    elif name == "scaled_dot_product_attention":
        yield from _attention(call, shape_of)
    elif costs := [c for c in operator.cost(call, shape_of) if c.macs and len(c.dims) > 1]:
        for cost in costs:  # as a dense layer applied to rows
            *rows, written, read = cost.dims
            yield Use("Gemm", (), (Quotient(tuple(rows), (), cost.macs), Quotient((read,)), Quotient((written,))))
    elif (pool := _pool(name, call, shape_of)) is not None:
        yield pool
    elif name not in _FREE and not call.operator.startswith("operator."):
        yield from _other(name, call, shape_of)


def _convolution(call: Call, shape_of: ShapeOf) -> Use:
    x, weight = call["input"], call["weight"]
    options, channels = _geometry(call, shape_of)
    written, read, whole = (weight, 0), (weight, 1), (x, channels)
    if shape_of(weight)[1] == 1 and shape_of(weight)[0] == shape_of(x)[channels] > 1:
        return Use("DepthwiseConv", options, (Quotient((written,)),))
    groups = Quotient((whole,), (read,))
    return Use("Conv", options, (groups, Quotient((read,)), Quotient((written, read), (whole,))))


def _transposed(call: Call, shape_of: ShapeOf) -> Use:
    weight = call["weight"]
    options, channels = _geometry(call, shape_of)
    rank = len(shape_of(weight)) - 2
    options = (*options, ("output_padding", each(call["output_padding"], rank)))
    read, written, whole = (weight, 0), (weight, 1), (call.node, channels)
    groups = Quotient((whole,), (written,))
    return Use("ConvTranspose", options, (groups, Quotient((read, written), (whole,)), Quotient((written,))))


def _geometry(call: Call, shape_of: ShapeOf) -> tuple[Options, int]:
    """Return the options of a convolution, and the dimension of the channels of what it reads."""
    shape, weight = shape_of(call["input"]), shape_of(call["weight"])
    rank, kernel = len(weight) - 2, weight[2:]
    strides, dilations = each(call["stride"], rank), each(call["dilation"], rank)
    around = _around(each(call["padding"], rank), kernel, dilations)
    options = _options(shape, rank, kernel, strides, around)
    return (*options, ("dilations", tuple(dilations))), len(shape) - rank - 1


def _options(
    shape: Sequence[int], rank: int, kernel: Sequence[int], strides: Sequence[int], around: Sequence[int]
) -> Options:
    batch = prod(shape[: len(shape) - rank - 1])
    size = ("size", tuple(shape[-rank:]))
    return (("batch", batch), size, ("kernel", tuple(kernel)), ("strides", tuple(strides)), ("pads", tuple(around)))


def _around(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Return what is padded before every dimension, then behind every dimension, as ONNX has it."""
    if padding == "same":
        sums = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return (*(total // 2 for total in sums), *(total - total // 2 for total in sums))
    return (0,) * (2 * len(kernel)) if padding == "valid" else (*padding, *padding)


def _product(one: Value, other: Value, shape_of: ShapeOf) -> Use:
    """Multiply matrices; leading dimensions are those of the larger operand."""
    last, before = len(shape_of(one)) - 1, len(shape_of(other)) - 2
    if last < 1 or before < 0:
        return _elements("Add", max((one, other), key=lambda value: prod(shape_of(value))), shape_of)
    leading = max((one, last - 1), (other, before), key=lambda pair: prod(shape_of(pair[0])[: pair[1]]))
    batch = Quotient(tuple((leading[0], d) for d in range(leading[1])))
    sizes = ((one, last - 1),), ((one, last),), ((other, before + 1),)
    return Use("MatMul", (), (batch, *map(Quotient, sizes)))


def _attention(call: Call, shape_of: ShapeOf) -> Iterator[Use]:
    query, key, value = call["query"], call["key"], call["value"]
    rank = len(shape_of(query))
    leading = tuple((query, d) for d in range(rank - 2))
    rows, inner, columns, out = (query, rank - 2), (query, rank - 1), (key, rank - 2), (value, rank - 1)
    yield Use("MatMul", (), (Quotient(leading), Quotient((rows,)), Quotient((inner,)), Quotient((columns,))))
    yield Use("Softmax", (), (Quotient((*leading, rows, columns)),))
    yield Use("MatMul", (), (Quotient(leading), Quotient((rows,)), Quotient((columns,)), Quotient((out,))))


def _pool(name: str, call: Call, shape_of: ShapeOf) -> Use | None:
    """Return a pool over two dimensions, ``None`` for what is none."""
    if name not in ("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d"):
        return None
    x = call.tensors()[0]
    shape = shape_of(x)
    channels = Quotient(((x, len(shape) - 3),))
    if name == "adaptive_avg_pool2d":
        steps = [max(1, size // out) for size, out in zip(shape[-2:], shape_of(call.node)[-2:], strict=True)]
        if steps == list(shape[-2:]):
            return Use("GlobalAveragePool", (("batch", prod(shape[:-3])), ("size", tuple(shape[-2:]))), (channels,))
        kernel, strides, padding = tuple(steps), tuple(steps), (0, 0)
    else:
        kernel, padding = each(call["kernel_size"], 2), each(call["padding"], 2)
        strides = each(call["stride"] or kernel, 2)
    operator = "MaxPool" if name.startswith("max") else "AveragePool"
    return Use(operator, _options(shape, 2, kernel, strides, (*padding, *padding)), (channels,))


def _other(name: str, call: Call, shape_of: ShapeOf) -> Iterator[Use]:
    nodes = [value for value in (*call.tensors(), call.node) if isinstance(value, fx.Node) and _is_tensor(value)]
    if nodes:
        yield _elements(_operator_like(name), max(nodes, key=lambda node: prod(shape_of(node))), shape_of)


def _is_tensor(node: fx.Node) -> bool:
    shape = node.meta.get(SHAPE)
    return shape is not None and not any(isinstance(size, tuple) for size in shape)


def _elements(operator: str, value: Value, shape_of: ShapeOf) -> Use:
    return Use(operator, (), (Quotient(tuple((value, d) for d in range(len(shape_of(value))))),))


def _operator_like(name: str) -> str:
    """Return the operator that stands for one: it takes about as long on tensors of the same size."""
    if name in ("softmax", "_softmax", "log_softmax"):
        return "Softmax"
    if name in _NORMS:
        return "LayerNormalization"
    if name in _COSTLY:
        return "Sigmoid"
    return "Transpose" if name in _MOVES else "Add"
