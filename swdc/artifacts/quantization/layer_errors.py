"""How much error each layer of a quantised file adds, measured beside the float file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from swdc.artifacts.onnx.runtime import Array

_RENAMED = "_QuantizeLinear_Input"
"""What onnxruntime appends to the name of an output of the graph, before it is quantised."""
_TO, _FROM = "QuantizeLinear", "DequantizeLinear"


def quantized_nodes(file: Path, excluded: Collection[str] = ()) -> list[str]:
    """Return the names of the nodes of a quantised file that compute in whole numbers: all that read some.

    Those ``excluded`` compute in float what they read.
    """
    graph = onnx.load(file, load_external_data=False).graph
    return [node.name for node in _quantized(graph) if node.name not in excluded]


def added_errors(
    file: Path, quantized: Path, feeds: Sequence[Mapping[str, Array]], folder: Path, excluded: Collection[str] = ()
) -> dict[str, float]:
    """Return by how much each quantised node, but for those ``excluded``, raises the relative error, the largest first.

    The error of a tensor is the norm of its difference to that of the float file, over all ``feeds``, relative to the
    norm there. A node adds that of its result, less the largest of what it reads. Results are looked at where they are
    whole numbers already, so that the kernels run that run in use: their sums may overflow.
    """
    graph = onnx.load(quantized, load_external_data=False).graph
    whole = {node.input[0]: node.output[0] for node in graph.node if node.op_type == _TO}
    back = {node.input[0]: node.output[0] for node in graph.node if node.op_type == _FROM}
    read = {back[name]: told for told, name in whole.items() if name in back}
    nodes = [node for node in _quantized(graph) if node.name not in excluded]
    told = {name: back.get(whole.get(name, ""), name) for node in nodes for name in node.output}
    errors = _errors(file, quantized, told, feeds, folder)
    found = {}
    for node in nodes:
        before = max((errors.get(read.get(name, name), 0.0) for name in node.input), default=0.0)
        found[node.name] = max((errors.get(name, 0.0) for name in node.output), default=0.0) - before
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _quantized(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    made = {name for node in graph.node if node.op_type == _FROM for name in node.output}
    return [node for node in graph.node if node.op_type not in (_TO, _FROM) and made.intersection(node.input)]


def _errors(
    file: Path, quantized: Path, told: Mapping[str, str], feeds: Sequence[Mapping[str, Array]], folder: Path
) -> dict[str, float]:
    """Return the relative error of each tensor that both files have; ``told`` says where to look at it."""
    own = {name for node in onnx.load(file, load_external_data=False).graph.node for name in node.output}
    names = {name: name.removesuffix(_RENAMED) for name in told}
    names = {name: other for name, other in names.items() if other in own}
    plain = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    one = _telling(file, list(names.values()), folder / "told.onnx", plain)
    other = _telling(quantized, [told[name] for name in names], folder / "told_quantized.onnx")
    wrong, whole = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for arrays in feeds:
        expected = one.run(list(names.values()), dict(arrays))
        got = other.run([told[name] for name in names], dict(arrays))
        for name, a, b in zip(names, expected, got, strict=True):
            wrong[name] += float(np.square(a.astype(np.float64) - b).sum())
            whole[name] += float(np.square(a.astype(np.float64)).sum())
    return {name: (wrong[name] / whole[name]) ** 0.5 for name in names if whole[name] > 0}


def _telling(
    file: Path, names: Sequence[str], target: Path,
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> onnxruntime.InferenceSession:  # fmt: skip
    """Return a session that also returns some tensors of a file."""
    model = onnx.load(file)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    onnx.save(model, target, save_as_external_data=model.ByteSize() >= 2**31 - 1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, level
    return onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
