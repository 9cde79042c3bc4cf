"""The nodes of an ONNX file that multiply and add, and their multiply-adds."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx.inliner import inline_local_functions

from swdc.ir.sizes import Size, evaluate, parse
from swdc.ops.base import family_of, is_overload

Shapes = Mapping[str, tuple[int, ...]]

_HIERARCHY = "pkg.torch.onnx.class_hierarchy"
"""Where the exporter notes the call that a node comes from; the optimizer keeps this note."""
_SMALL = 1024
"""Largest constant, in bytes, that is loaded: enough for any shape, less than a weight."""


@dataclass(frozen=True)
class NodeCount:
    """One node of an ONNX file that multiplies and adds.

    ``origin`` is the operator of torch that it was exported from, without its overload, or the node's own operator if
    that is not known. ``macs`` is ``None`` if shape inference leaves a shape open.
    """

    name: str
    operator: str
    origin: str
    macs: int | None


def count_nodes(path: str | os.PathLike[str], inputs: Shapes) -> list[NodeCount]:
    """Return the nodes of an ONNX file that multiply and add, with inputs of the given shapes.

    Conv, ConvTranspose, Gemm, MatMul, Einsum, Attention, RNN, GRU and LSTM of the main graph are counted; biases,
    norms and element-wise operators are not.
    """
    graph, shapes = _with_shapes(path, inputs)
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if all(name in constants for name in node.input if name):
            constants.update(node.output)
        elif node.op_type in _RULES and node.domain in ("", "ai.onnx"):
            found.append(NodeCount(node.name, node.op_type, _origin(node), _macs(node, shapes)))
    return found


def _with_shapes(path: str | os.PathLike[str], inputs: Shapes) -> tuple[onnx.GraphProto, Shapes]:
    """Return the main graph of a file without its weights, and the shapes of its values for inputs of given shapes.

    The shapes are inferred; if that fails, they are taken from the file, which gives them in sizes of its inputs.
    """
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        _lighten(tensor, Path(path).parent)
    noted = _noted_shapes(model.graph, inputs)
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, inputs.get(value.name, ()), strict=False):
            dim.dim_value = size
    for value in model.graph.output:  # their shapes are symbolic
        value.type.tensor_type.ClearField("shape")
    model = inline_local_functions(model) if model.functions else model
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return graph, {**noted, **_noted_shapes(graph, {}), **weights, **inputs}


def _lighten(tensor: onnx.TensorProto, folder: Path) -> None:
    """Drop the values of a weight; load a constant that may be a shape, also from external data."""
    if tensor.data_type == onnx.TensorProto.INT64 and 8 * prod(tensor.dims) <= _SMALL:
        if onnx.external_data_helper.uses_external_data(tensor):
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    elif tensor.raw_data:
        tensor.ClearField("raw_data")


def _noted_shapes(graph: onnx.GraphProto, inputs: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a graph notes for its values, in which symbols are sizes of the inputs."""
    sizes: dict[str, int] = {}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes |= {d.dim_param: size for d, size in zip(dims, inputs.get(value.name, ()), strict=False) if d.dim_param}
    shapes = {}
    for value in (*graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            with suppress(ValueError, SyntaxError, KeyError):  # not an expression, or one over unknown symbols
                shapes[value.name] = evaluate([_size(dim) for dim in dims], sizes)
    return shapes


def _size(dim: onnx.TensorShapeProto.Dimension) -> Size:
    return dim.dim_value if dim.HasField("dim_value") else parse(dim.dim_param)


def _origin(node: onnx.NodeProto) -> str:
    """Return the family of the operator of torch that a node was exported from.

    For a convolution the node's own type is used, because operators that the optimizer folded into it hide its origin.
    """
    if node.op_type in ("Conv", "ConvTranspose"):
        return "convolution"
    noted = {entry.key: entry.value for entry in node.metadata_props}.get(_HIERARCHY)
    last = ast.literal_eval(noted)[-1] if noted else ""
    return family_of(last) if is_overload(last) else node.op_type


def _macs(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    try:
        return _RULES[node.op_type](_Node(node, shapes))
    except KeyError:  # a shape is not known
        return None


class _Node:
    """A node with the shapes of its inputs and output; raises ``KeyError`` if a shape is not known."""

    def __init__(self, node: onnx.NodeProto, shapes: Shapes) -> None:
        self.node, self.shapes = node, shapes

    def input(self, number: int) -> tuple[int, ...]:
        return self.shapes[self.node.input[number]]

    def output(self) -> tuple[int, ...]:
        return self.shapes[self.node.output[0]]

    def attribute(self, name: str, default: Any) -> Any:
        found = [a for a in self.node.attribute if a.name == name]
        return onnx.helper.get_attribute_value(found[0]) if found else default


def _conv(node: _Node) -> int:
    return prod(node.output()) * prod(node.input(1)[1:])


def _conv_transpose(node: _Node) -> int:
    return prod(node.input(0)) * prod(node.input(1)[1:])


def _gemm(node: _Node) -> int:
    return prod(node.output()) * node.input(0)[0 if node.attribute("transA", 0) else 1]


def _matmul(node: _Node) -> int:
    return prod(node.output()) * node.input(0)[-1]


def _einsum(node: _Node) -> int:
    """Multiply-adds of a contraction of two factors, label by label; a single factor is not multiplied."""
    if len(node.node.input) == 1:
        return 0
    left = node.attribute("equation", b"").decode().replace(" ", "").partition("->")[0]
    sizes: dict[str, int] = {}
    for number, labels in enumerate(left.split(",")):
        shape = node.input(number)
        start, dots, end = labels.partition("...")
        inner = len(shape) - len(start) - len(end) if dots else 0
        names = [*start, *(f"...{i - inner}" for i in range(inner)), *end]
        for label, size in zip(names, shape, strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    return prod(sizes.values()) * (len(node.node.input) - 1)


def _attention(node: _Node) -> int:
    """Multiply-adds of the scores and weighted sums of an attention.

    Heads are a dimension of their own in inputs of four dimensions, and part of the width in inputs of three.
    """
    query, key, value = (node.input(number) for number in range(3))
    positions = query[-2] * key[-2]
    if len(query) == 4:
        return query[0] * query[1] * positions * (query[3] + value[3])
    share = node.attribute("q_num_heads", 1) // node.attribute("kv_num_heads", 1)
    return query[0] * positions * int(query[2] + share * value[2])


def _recurrent(node: _Node) -> int:
    """Multiply-adds of two dense layers, of the input and of the state, at every step of every sequence."""
    return prod(node.input(0)[:2]) * (prod(node.input(1)) + prod(node.input(2)))


_RULES: dict[str, Callable[[_Node], int]] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul, "Einsum": _einsum,
    "Attention": _attention, "RNN": _recurrent, "GRU": _recurrent, "LSTM": _recurrent,
}  # fmt: skip
