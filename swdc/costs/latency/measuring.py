"""Measuring layers in onnxruntime: many in one small model, each timed by the profile of its own node."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from swdc.costs.clock import repeat
from swdc.costs.latency.operator_kinds import Layer, Node, Sizes, node_of

Probe = tuple[Layer, Sizes]
Announce = Callable[[str, int, int], None]
"""Is called with a text that names the work, the number of items done, and the total number."""

_WARM_UP, _LEAST_RUNS = 2, 8
_ELEMENTS, _NODES = 16 << 20, 96
"""Bounds of one model: its weights are as large as those of a network, so that they lie as far from the processor."""
_OPSET, _IR = 17, 8
_NAME = re.compile(r"layer(\d+)(?!\d)")


def times_ms(probes: Sequence[Probe], threads: int = 1) -> list[float]:
    """Return the least time of each layer at given sizes in milliseconds, of 8 runs or more after a warm-up.

    Other work on the machine adds to a time, and more often to a long one, so a median would distort the table.
    """
    nodes = [node_of(layer, sizes) for layer, sizes in probes]
    with tempfile.TemporaryDirectory(prefix="swdc-latency-") as folder:
        return _measured(nodes, threads, Path(folder))


def parts(probes: Sequence[Probe]) -> Iterator[Sequence[Probe]]:
    """Yield the probes in parts that fit one model each."""
    first, elements = 0, 0
    for place, (layer, sizes) in enumerate(probes):
        more = node_of(layer, sizes).elements
        if place > first and (elements + more > _ELEMENTS or place - first == _NODES):
            yield probes[first:place]
            first, elements = place, 0
        elements += more
    if first < len(probes):
        yield probes[first:]


def _measured(nodes: Sequence[Node], threads: int, folder: Path) -> list[float]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    model = model_of(nodes).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = inputs_of(nodes)
    for _ in range(_WARM_UP):
        session.run(None, feeds)
    repeat(partial(session.run, None, feeds), _LEAST_RUNS)
    return _least(json.loads(Path(session.end_profiling()).read_text()), len(nodes))


def _least(events: Sequence[dict[str, Any]], number: int) -> list[float]:
    """Return the least time of the node of each layer; a profile is in microseconds."""
    found: list[list[float]] = [[] for _ in range(number)]
    for event in events:
        name = str(event.get("name", ""))
        match = _NAME.match(name)
        if match and name.endswith("_kernel_time"):
            found[int(match.group(1))].append(float(event["dur"]))
    return [max(min(times[_WARM_UP:]), 0.1) / 1000 for times in found]


def inputs_of(nodes: Sequence[Node]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the inputs of the model of some layers, by name."""
    return {
        f"input{k}_{n}": np.full(shape, 0.5, np.float32)
        for k, node in enumerate(nodes)
        for n, shape in enumerate(node.inputs)
    }


def model_of(nodes: Sequence[Node]) -> onnx.ModelProto:
    """Return a model of independent layers; weights are constants that onnxruntime makes when it loads the model."""
    graph: dict[str, list[Any]] = {"nodes": [], "inputs": [], "outputs": [], "constants": []}
    for k, node in enumerate(nodes):
        names = [f"input{k}_{n}" for n in range(len(node.inputs))]
        for name, shape in zip(names, node.inputs, strict=True):
            graph["inputs"].append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        if node.channels_first:
            names = [_written_by_a_convolution(graph, k, node)]
        weights = [_constant(graph, f"weight{k}_{n}", shape) for n, shape in enumerate(node.weights)]
        # The output is named like the node, because a node that onnxruntime rewrites is called after its output.
        made = helper.make_node(node.operator, names + weights, [f"layer{k}"], name=f"layer{k}", **node.attributes)
        # Only a number leaves the model, so that no large result is copied.
        last = helper.make_node("ReduceMax", [f"layer{k}"], [f"last{k}"], name=f"last{k}", keepdims=0)
        graph["nodes"] += [made, last]
        graph["outputs"].append(helper.make_tensor_value_info(f"last{k}", TensorProto.FLOAT, []))
    whole = helper.make_graph(graph["nodes"], "layers", graph["inputs"], graph["outputs"], graph["constants"])
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


def _written_by_a_convolution(graph: dict[str, list[Any]], k: int, node: Node) -> str:
    """Put a convolution in front of a node, which leaves the feature map in the layout of convolutions."""
    _, channels, *size = node.inputs[0]
    weight = _constant(graph, f"before{k}_weight", (channels, 1, *(1 for _ in size)))
    graph["nodes"].append(
        helper.make_node("Conv", [f"input{k}_0", weight], [f"before{k}"], name=f"before{k}", group=channels)
    )
    return f"before{k}"


def _constant(graph: dict[str, list[Any]], name: str, shape: Sizes) -> str:
    size = helper.make_tensor(f"{name}_shape", TensorProto.INT64, [len(shape)], shape)
    value = helper.make_tensor(f"{name}_value", TensorProto.FLOAT, [1], [0.01])
    graph["constants"].append(size)
    graph["nodes"].append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], name=name, value=value))
    return name
