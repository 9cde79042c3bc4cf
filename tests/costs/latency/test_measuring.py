"""Real measurements of tiny layers: every kind runs in onnxruntime, and what computes more takes longer."""

from __future__ import annotations

from swdc.costs.latency.measuring import parts, times_ms
from swdc.costs.latency.operator_kinds import KINDS, Layer, node_of

_IMAGE = (("batch", 1), ("size", (8, 8)), ("kernel", (3, 3)), ("strides", (1, 1)), ("pads", (1, 1, 1, 1)))
_CONVOLUTION = (*_IMAGE, ("dilations", (1, 1)))
OPTIONS = {
    "Conv": _CONVOLUTION,
    "DepthwiseConv": _CONVOLUTION,
    "ConvTranspose": (*_CONVOLUTION, ("output_padding", (0, 0))),
    "MaxPool": _IMAGE,
    "AveragePool": _IMAGE,
    "GlobalAveragePool": _IMAGE[:2],
}


def layer(operator: str) -> Layer:
    return Layer(operator, OPTIONS.get(operator, ()))  # type: ignore[arg-type]


def test_every_kind_of_layer_is_measured_by_its_own_node() -> None:
    sizes = {operator: (2, 4, 8, 8)[: len(kind.axes)] for operator, kind in KINDS.items()}
    probes = [(layer(operator), size) for operator, size in sizes.items()]
    probes += [(layer("Add"), (300,)), (layer("Softmax"), (256,)), (layer("MaxPool"), (16,))]
    times = times_ms(probes)
    assert len(times) == len(probes)
    assert all(0 < ms < 1000 for ms in times)


def test_more_takes_longer() -> None:
    wide, narrow = times_ms([(layer("Conv"), (1, 256, 256)), (layer("Conv"), (1, 16, 16))])
    assert wide > 5 * narrow


def test_parts_hold_everything_once_and_no_more_than_a_model_should() -> None:
    probes = [(layer("Gemm"), (1, 1024, 1024 * (1 + n % 3))) for n in range(200)]
    found = list(parts(probes))
    assert [probe for part in found for probe in part] == probes
    assert all(sum(node_of(*probe).elements for probe in part) <= 16 << 20 for part in found)
    assert len(list(parts([(layer("Add"), (8,))] * 97))) == 2
    assert list(parts([])) == []
    assert list(parts([(layer("Gemm"), (1, 8192, 8192))])) == [[(layer("Gemm"), (1, 8192, 8192))]]
