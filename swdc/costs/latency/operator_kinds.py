"""The operators whose times are measured, and how each stands in an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

from swdc.ops.call_cost import Option

Sizes: TypeAlias = tuple[int, ...]

CHANNELS, COUNT, ELEMENTS = "channels", "count", "elements"
"""The kinds of sizes; the kind decides at which values a size is measured."""


@dataclass(frozen=True)
class Layer:
    """An operator with all but some sizes fixed; ``KINDS`` says what its sizes are.

    ``largest`` gives the sizes in the dense program, ``smallest`` those when all groups are at their least; they
    bound what is measured, and do not enter the signature.
    """

    operator: str
    options: tuple[tuple[str, Option], ...]
    largest: Sizes = field(default=())
    smallest: Sizes = field(default=())

    def __getitem__(self, name: str) -> Any:
        return dict(self.options)[name]

    @property
    def signature(self) -> str:
        """The operator and its options as text: the key under which times are stored."""
        options = (f"{name}={_text(option)}" for name, option in self.options)
        return f"{self.operator}({', '.join(options)})"


def _text(option: Option) -> str:
    return "x".join(map(str, option)) if isinstance(option, tuple) else str(option)


@dataclass(frozen=True)
class Node:
    """A layer at given sizes as a node of an ONNX graph: shapes of what it reads, and of its constant weights.

    ``channels_first`` says that it reads a feature map which a convolution before it has written, in the layout that
    onnxruntime prefers.
    """

    operator: str
    inputs: tuple[Sizes, ...]
    weights: tuple[Sizes, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    channels_first: bool = False

    @property
    def elements(self) -> int:
        """The number of elements of all that the node reads."""
        return sum(prod(shape) for shape in (*self.inputs, *self.weights))


@dataclass(frozen=True)
class Kind:
    """The kinds of the sizes of an operator, and the function that makes its node at given sizes."""

    axes: tuple[str, ...]
    node: Callable[[Layer, Sizes], Node]


def node_of(layer: Layer, sizes: Sizes) -> Node:
    """Return the ONNX node of a layer at given sizes."""
    return KINDS[layer.operator].node(layer, sizes)


def _convolution(layer: Layer, sizes: Sizes) -> Node:
    groups, read, written = sizes
    names = ("strides", "pads", "dilations")
    attributes = {name: layer[name] for name in names} | {"group": groups, "kernel_shape": layer["kernel"]}
    image = (layer["batch"], groups * read, *layer["size"])
    if layer.operator == "ConvTranspose":
        attributes["output_padding"] = layer["output_padding"]
        weight = (groups * read, written, *layer["kernel"])
    else:
        weight = (groups * written, read, *layer["kernel"])
    return Node(layer.operator, (image,), (weight, (groups * written,)), attributes)


def _depthwise(layer: Layer, sizes: Sizes) -> Node:
    node = _convolution(layer, (sizes[0], 1, 1))
    return Node("Conv", node.inputs, node.weights, node.attributes)


def _dense(layer: Layer, sizes: Sizes) -> Node:
    rows, read, written = sizes
    return Node("Gemm", ((rows, read),), ((read, written), (written,)))


def _product(layer: Layer, sizes: Sizes) -> Node:
    batch, rows, inner, columns = sizes
    return Node("MatMul", ((batch, rows, inner), (batch, inner, columns)))


def _pool(layer: Layer, sizes: Sizes) -> Node:
    image = (layer["batch"], sizes[0], *layer["size"])
    if layer.operator == "GlobalAveragePool":
        return Node(layer.operator, (image,), channels_first=True)
    attributes = {"kernel_shape": layer["kernel"], "strides": layer["strides"], "pads": layer["pads"]}
    return Node(layer.operator, (image,), attributes=attributes, channels_first=True)


def _rows(sizes: Sizes) -> Sizes:
    return (max(1, sizes[0] // 64), min(64, sizes[0]))


def _one(layer: Layer, sizes: Sizes) -> Node:
    return Node(layer.operator, (sizes,))


def _two(layer: Layer, sizes: Sizes) -> Node:
    return Node(layer.operator, (sizes, sizes))


def _matrix(layer: Layer, sizes: Sizes) -> Node:
    return Node(layer.operator, (_rows(sizes),))


def _normalization(layer: Layer, sizes: Sizes) -> Node:
    rows = _rows(sizes)
    return Node(layer.operator, (rows,), ((rows[1],), (rows[1],)))


KINDS: Mapping[str, Kind] = {
    "Conv": Kind((COUNT, CHANNELS, CHANNELS), _convolution),  # groups, channels read and written in each
    "ConvTranspose": Kind((COUNT, CHANNELS, CHANNELS), _convolution),
    "DepthwiseConv": Kind((CHANNELS,), _depthwise),
    "Gemm": Kind((COUNT, CHANNELS, CHANNELS), _dense),  # rows, features read and written
    "MatMul": Kind((COUNT, COUNT, CHANNELS, CHANNELS), _product),  # matrices, rows, summed over, columns
    "MaxPool": Kind((CHANNELS,), _pool),
    "AveragePool": Kind((CHANNELS,), _pool),
    "GlobalAveragePool": Kind((CHANNELS,), _pool),
    "Add": Kind((ELEMENTS,), _two),
    "Sigmoid": Kind((ELEMENTS,), _one),
    "Transpose": Kind((ELEMENTS,), _matrix),
    "Softmax": Kind((ELEMENTS,), _matrix),
    "LayerNormalization": Kind((ELEMENTS,), _normalization),
}
