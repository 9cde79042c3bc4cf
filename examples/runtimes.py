"""A slim program in OpenVINO: its error there, and plans for the time there (``pip install "swdc[runtimes]"``).

``python examples/runtimes.py`` cuts half of the multiply-adds of a small convolutional network, runs the ONNX file in
OpenVINO, and prints the largest error beside the program. Then it plans for half of the time that OpenVINO takes on
this machine, with the layers measured there. Weights are random: neither the error nor the time asks for a training.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import nn

import swdc

RUNS = 50
OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
"""Processors with instructions for bfloat16 would compute in it, with an error of a percent."""


def network() -> nn.Module:
    """Return a convolutional network for images of 3 channels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    ).eval()  # fmt: skip


def compiled(model: str | bytes, **options: object) -> openvino.CompiledModel:
    """Return an ONNX file, or its bytes, compiled for the CPU."""
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", {**OPTIONS, **options})


def error(program: swdc.Program, path: Path, images: torch.Tensor) -> float:
    """Return the largest difference of the outputs of a file in OpenVINO, over the largest output of the program."""
    with torch.no_grad():
        expected = program(images).numpy()
    (found,) = compiled(str(path))(images.numpy()).values()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def milliseconds(model: bytes, inputs: Mapping[str, np.ndarray], threads: int) -> float:
    """Return the least time of a layer in OpenVINO: that of the nodes of ``layer0`` in its profile.

    Nodes that only change the layout of a tensor are left out, because within a network there are fewer of them.
    """
    request = compiled(model, INFERENCE_NUM_THREADS=threads, PERF_COUNT=True).create_infer_request()
    times = []
    for _ in range(RUNS):
        request.infer(dict(inputs))
        nodes = [n for n in request.profiling_info if n.node_name.startswith("layer0") and n.node_type != "Reorder"]
        times.append(sum(1000 * node.real_time.total_seconds() for node in nodes))
    return max(min(times), 1e-4)  # a profile has whole microseconds, so that small layers take none


def main() -> None:
    """Print the error in OpenVINO, and the times of two plans."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the file and the times")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    program = swdc.trace(network(), images)
    slim = swdc.slim(program, swdc.plan(program, 0.5, budget="macs", round_to=8))
    swdc.export_onnx(slim, out / "slim.onnx", deploy=True)
    print(
        f"slim.onnx in OpenVINO {openvino.__version__}: max relative error {error(slim, out / 'slim.onnx', images):.1e}"
    )
    table = swdc.MeasuredTable.of_runtime(milliseconds, out / "times")
    plan = swdc.plan(program, 0.5, budget="latency", table=table, round_to=8)
    before, after = (plan.settings[name] for name in ("predicted_ms_before", "predicted_ms"))
    print(f"by the times of OpenVINO: {before:.3f} ms before, {after:.3f} ms by the plan for half of the time")
    print(plan)


if __name__ == "__main__":
    main()
