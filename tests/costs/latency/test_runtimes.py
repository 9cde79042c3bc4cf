"""Other runtimes as the clock: what their function is given, and what it may return."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import swdc
from swdc.costs.latency.operator_kinds import KINDS
from swdc.errors import PlanError
from tests.costs.latency.test_measuring import layer


class Multiplications:
    """A clock that runs each model in onnxruntime, and takes a microsecond for 1,000 weights of the layer."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.operators: list[str] = []

    def __call__(self, model: bytes, inputs: Mapping[str, Any], threads: int) -> float:
        self.threads.append(threads)
        made = onnx.load_from_string(model)
        (node,) = [node for node in made.graph.node if node.output[0] == "layer0"]
        assert node.name == "layer0"
        self.operators.append(node.op_type)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        assert {given.name for given in session.get_inputs()} == set(inputs)
        (last,) = session.run(None, dict(inputs))
        assert np.isfinite(last)
        shapes = [onnx.numpy_helper.to_array(constant) for constant in made.graph.initializer]
        return float(1 + sum(int(np.prod(shape)) for shape in shapes)) / 1e6


def network() -> swdc.Program:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, 4),
    )  # fmt: skip
    return swdc.trace(model, torch.randn(1, 3, 8, 8))


def test_a_plan_is_made_for_the_time_of_another_runtime(tmp_path: Path) -> None:
    clock, program = Multiplications(), network()
    table = swdc.MeasuredTable.of_runtime(clock, tmp_path / "board", threads=3)
    plan = swdc.plan(program, 0.5, budget="latency", table=table)
    assert set(clock.threads) == {3}
    assert {"Conv", "Gemm", "GlobalAveragePool"} <= set(clock.operators)
    assert plan.settings["predicted_ms"] <= 0.5 * plan.settings["predicted_ms_before"]
    assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)).exact
    known = len(clock.threads)
    again = swdc.MeasuredTable.of_runtime(clock, tmp_path / "board", threads=3)
    assert swdc.plan(program, 0.5, budget="latency", table=again).kept == plan.kept
    assert len(clock.threads) == known, "the times of the folder are used"


def test_the_times_are_those_that_the_function_returns(tmp_path: Path) -> None:
    table = swdc.MeasuredTable.of_runtime(Multiplications(), tmp_path)
    dense = swdc.Layer("Gemm", (), (1, 16, 16), (1, 16, 16))
    assert table.ms(dense, (1, 16, 16)) == pytest.approx((1 + 16 * 16 + 16) / 1e6)


def test_every_kind_of_layer_becomes_a_model(tmp_path: Path) -> None:
    clock = Multiplications()
    table = swdc.MeasuredTable.of_runtime(clock, tmp_path)
    for operator, kind in KINDS.items():
        made, sizes = layer(operator), (8,) * len(kind.axes)
        assert table.ms(swdc.Layer(operator, made.options, sizes, sizes), sizes) > 0
    assert set(clock.operators) == {"Conv" if operator == "DepthwiseConv" else operator for operator in KINDS}


@pytest.mark.parametrize("returned", [0.0, -1.0, float("nan"), float("inf"), None, "1"])
def test_what_is_no_time_is_refused(tmp_path: Path, returned: Any) -> None:
    table = swdc.MeasuredTable.of_runtime(lambda model, inputs, threads: returned, tmp_path / "none")
    with pytest.raises(PlanError, match=r"expected run to return the milliseconds of .* as a positive number, got"):
        swdc.plan(network(), 0.5, budget="latency", table=table)
    assert not list(tmp_path.rglob("*.json"))
